//! Who was served last: whether other items fared better than one that failed.

use crate::model::page::{AttemptId, ItemIx};

/// Who was served last: just enough to know whether any other item than a given one was served after a given attempt.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LastServed {
    /// The newest attempt that was served.
    latest: Option<(AttemptId, ItemIx)>,
    /// The newest one for another item than that one.
    other: Option<(AttemptId, ItemIx)>,
}

impl LastServed {
    pub(crate) fn record(&mut self, item: ItemIx, attempt: AttemptId) {
        match self.latest {
            Some((_, known)) if known == item => self.latest = self.latest.max(Some((attempt, item))),
            Some((last, _)) if last > attempt => self.other = self.other.max(Some((attempt, item))),
            _ => (self.latest, self.other) = (Some((attempt, item)), self.latest),
        }
    }

    /// Whether a request for another item was served whose attempt is newer than `last`, the last one when a failure arrived.
    pub(crate) fn others_since(&self, last: AttemptId, item: ItemIx) -> bool {
        let is_later = |served: Option<(AttemptId, ItemIx)>| served.is_some_and(|(at, by)| at > last && by != item);
        is_later(self.latest) || is_later(self.other)
    }
}

#[cfg(test)]
mod tests {
    use super::LastServed;
    use crate::model::page::{AttemptId, ItemIx};

    #[test]
    fn only_another_item_s_request_that_was_sent_after_the_failure_arrived_proves_anything() {
        let mut served = LastServed::default();
        let record = |served: &mut LastServed, item, attempt| served.record(ItemIx(item), AttemptId(attempt));
        let since = |served: &LastServed, last, item| served.others_since(AttemptId(last), ItemIx(item));
        assert!(!since(&served, 0, 1));
        record(&mut served, 2, 3);
        let table = [(2, 1, true), (3, 1, false), (2, 2, false)];
        for (failed, item, proves) in table {
            assert_eq!(since(&served, failed, item), proves, "{item} failed at {failed}");
        }
        // Another one that was sent earlier, and then the same one again: the one that helps is not forgotten.
        record(&mut served, 3, 2);
        assert!(since(&served, 1, 2) && !since(&served, 2, 2));
        record(&mut served, 2, 9);
        assert!(since(&served, 1, 2) && !since(&served, 2, 2));
        record(&mut served, 4, 10);
        assert!(since(&served, 8, 4) && since(&served, 9, 2));
    }
}
