//! The check before the first paid request: what cannot be written later costs nothing now.

use object_store::{Error, PutMode, PutPayload, UpdateVersion};

use super::error::is_not_implemented;
use super::upload::LeftoverLog;
use super::{Bucket, BucketError};

impl Bucket {
    /// Proves that the prefix takes objects, that an object is created only if there is none, and that one is replaced only if
    /// it is the one that was read. `nonce`: letters that no other process uses.
    pub(crate) async fn probe(&self, nonce: &str, log: &dyn LeftoverLog) -> Result<(), BucketError> {
        let name = format!("_pagehaul/probe-{nonce}");
        log.may_be_left(&name, None)?;
        let probed = self.probe_with(&name).await;
        let removed = self.remove(std::slice::from_ref(&name)).await.map_err(|error| self.refusal(error));
        probed.and(removed)?;
        Ok(log.is_gone(&name, None)?)
    }

    async fn probe_with(&self, name: &str) -> Result<(), BucketError> {
        self.put_over(name, b"1", |_| false).await.map_err(|error| self.refusal(error))?;
        if !self.refuses(name, b"2", PutMode::Create).await? {
            return Err(self.unfit("it replaces an object that should only be created"));
        }
        let Some((_, first)) = self.get_version(name).await? else {
            return Err(self.unfit("an object that was written is not there"));
        };
        let version = first.version.as_ref().map(|_| "1".to_owned());
        let stale = UpdateVersion { e_tag: Some("\"0123456789abcdef0123456789abcdef\"".to_owned()), version };
        if !self.refuses(name, b"3", PutMode::Update(stale)).await? {
            return Err(self.unfit("it replaces an object that has changed meanwhile"));
        }
        // Tried more than once: a store may refuse a write with a conflict although there is none.
        match self.put_over(name, b"4", |found| found == b"1").await {
            Err(BucketError::Request { error, .. }) if is_condition(&error) => {
                return Err(self.unfit("it does not replace an object that has not changed"));
            }
            put => put.map(drop)?,
        }
        match self.get(name).await?.as_deref() {
            Some(b"4") => Ok(()),
            Some(_) | None => Err(self.unfit("it returns another content than was written")),
        }
    }

    /// Whether the store refuses a conditional write for its condition.
    async fn refuses(&self, name: &str, content: &'static [u8], mode: PutMode) -> Result<bool, BucketError> {
        match self.objects().put_opts(&self.path(name), PutPayload::from_static(content), mode.into()).await {
            Ok(_) => Ok(false),
            Err(error) if is_condition(&error) => Ok(true),
            Err(error) => Err(self.refusal(self.error("write a probe to", name, error))),
        }
    }

    /// What a failed write says about the store.
    fn refusal(&self, error: BucketError) -> BucketError {
        let BucketError::Request { error: cause, .. } = &error else { return error };
        if matches!(**cause, Error::NotFound { .. }) {
            self.unfit("there is no such bucket")
        } else if is_not_implemented(cause) {
            self.unfit("it lacks an operation: conditional writes and the removal of objects are needed")
        } else {
            error
        }
    }
}

/// Whether a store refused a write for its condition.
fn is_condition(error: &Error) -> bool {
    matches!(error, Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotModified { .. })
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fault, Faulty, Log};

    #[tokio::test]
    async fn a_store_that_ignores_conditions_is_refused_and_one_that_keeps_them_is_not() {
        use Fault::{After, Conflict, Ignores};
        let reasons: [(Vec<Option<Fault>>, Option<&str>); 7] = [
            (vec![None; 4], None),
            (vec![None, Some(Ignores)], Some("replaces an object that should only be created")),
            (vec![None, None, Some(Ignores)], Some("replaces an object that has changed meanwhile")),
            (vec![None, None, None, None, Some(Conflict)], None),
            (
                [[None; 4].as_slice(), &[Some(Conflict); 3]].concat(),
                Some("does not replace an object that has not changed"),
            ),
            (vec![Some(After)], None),
            (vec![Some(Conflict)], None),
        ];
        for (faults, reason) in reasons {
            let (store, log) = (Faulty::with(&faults), Log::default());
            let checked = store.bucket().probe("n", &log).await.map_err(|error| error.to_string());
            match reason {
                None => assert_eq!(checked, Ok(())),
                Some(reason) => assert!(checked.unwrap_err().contains(reason), "{faults:?}"),
            }
            assert_eq!(store.bucket().get("_pagehaul/probe-n").await.unwrap(), None, "the probe is removed");
            assert_eq!(log.0.lock().unwrap().is_empty(), reason.is_none(), "a probe that failed is removed once more");
        }
    }
}
