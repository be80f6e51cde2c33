//! The keys of open walks: how many are in memory, and which go first where they are too many.

use super::Scheduler;
use super::open::Open;

impl Scheduler {
    /// Keys in memory, over all walks.
    pub fn keys(&self) -> usize {
        self.walks.values().filter_map(|open| open.walk.keys()).sum()
    }

    /// Unloads keys of walks with nothing in flight, the shallowest first, until at most `most` are in memory.
    pub fn unload_keys(&mut self, most: usize) {
        let mut keys = self.keys();
        if keys <= most {
            return;
        }
        let mut idle: Vec<&mut Open> = self.walks.values_mut().filter(|open| open.in_flight == 0).collect();
        idle.sort_unstable_by_key(|open| (open.walk.next(), open.walk.item));
        for open in idle {
            if keys <= most {
                break;
            }
            keys = keys.saturating_sub(open.walk.keys().unwrap_or_default());
            open.walk.unload();
        }
    }
}
