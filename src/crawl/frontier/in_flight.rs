//! The one owner of what is in flight: each page from the moment it is handed out until it is applied, requested again or given
//! up. A page whose response arrived and was not applied yet is kept, but is not a request in flight any more.

use std::collections::{HashMap, HashSet};

use super::{Frontier, PageTask};
use crate::model::page::{ItemIx, PageNum};

type TaskKey = (ItemIx, PageNum);

#[derive(Debug, Default)]
pub(super) struct InFlight {
    tasks: HashMap<TaskKey, PageTask>,
    /// Those whose outcome arrived.
    received: HashSet<TaskKey>,
}

impl InFlight {
    pub(super) fn insert(&mut self, task: PageTask) -> &PageTask {
        self.tasks.entry((task.item, task.page)).insert_entry(task).into_mut()
    }

    pub(super) fn get(&self, key: TaskKey) -> Option<&PageTask> {
        self.tasks.get(&key)
    }

    pub(super) fn tasks(&self) -> impl Iterator<Item = &PageTask> {
        self.tasks.values()
    }

    pub(super) fn remove(&mut self, key: TaskKey) -> Option<PageTask> {
        self.received.remove(&key);
        self.tasks.remove(&key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }
}

impl Frontier {
    pub(crate) fn requests_in_flight(&self) -> usize {
        self.in_flight.tasks.len() - self.in_flight.received.len()
    }

    /// Notes that a request has an outcome. The page stays here until [`take_in_flight`](Self::take_in_flight) takes it.
    pub(crate) fn note_outcome(&mut self, item: ItemIx, page: PageNum) {
        if self.in_flight.tasks.contains_key(&(item, page)) {
            self.in_flight.received.insert((item, page));
        }
    }

    /// Notes that no outcome will come: the dispatcher has ended.
    pub(crate) fn abandon_requests(&mut self) {
        self.in_flight.received = self.in_flight.tasks.keys().copied().collect();
    }

    /// Whether a page is in flight, or received and not yet applied.
    pub(crate) fn has_in_flight(&self) -> bool {
        !self.in_flight.is_empty()
    }
}
