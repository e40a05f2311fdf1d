//! News while a data set is looked for, for whoever shows them: the library itself prints nothing.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::kind::DatasetKind;

/// Something that happened while a data set was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataEvent<'a> {
    /// The user's folder has not all files of the data set, so that the cache is looked in.
    Incomplete {
        /// The user's folder.
        dir: &'a Path,
        /// The data set.
        kind: DatasetKind,
    },
    /// A download stands here. The first for a file comes before anything is asked for, with what an earlier attempt left.
    Received {
        /// The file's name.
        name: &'a str,
        /// Bytes of the file.
        size: u64,
        /// Bytes of it that are on disk.
        done: u64,
    },
}

type Observe = dyn Fn(DataEvent<'_>) + Send + Sync;

/// A function that is told of each [`DataEvent`]; by default none.
#[derive(Clone, Default)]
pub struct Observer(Option<Arc<Observe>>);

impl Observer {
    /// Calls `observe` for each event.
    pub fn new(observe: impl Fn(DataEvent<'_>) + Send + Sync + 'static) -> Observer {
        Observer(Some(Arc::new(observe)))
    }

    pub(super) fn tell(&self, event: DataEvent<'_>) {
        if let Some(observe) = &self.0 {
            observe(event);
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Observer(a function)" } else { "Observer(none)" })
    }
}
