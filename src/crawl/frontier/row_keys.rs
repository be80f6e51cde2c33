//! The row keys of open walks: how many are in memory, and which are unloaded first.

use super::Frontier;
use super::open_walk::OpenWalk;

impl Frontier {
    pub(crate) fn keys(&self) -> usize {
        self.walks.values().filter_map(|open| open.walk.keys()).sum()
    }

    /// Unloads row keys of walks with nothing in flight, the shallowest walks first, until at most `most` are in memory.
    pub fn unload_keys(&mut self, most: usize) {
        let mut keys = self.keys();
        if keys <= most {
            return;
        }
        let mut idle: Vec<&mut OpenWalk> = self.walks.values_mut().filter(|open| open.in_flight == 0).collect();
        idle.sort_unstable_by_key(|open| (open.walk.next(), open.walk.item));
        for open in idle {
            if keys <= most {
                break;
            }
            keys = keys.saturating_sub(open.walk.keys().unwrap_or_default());
            open.walk.unload_keys();
        }
    }
}
