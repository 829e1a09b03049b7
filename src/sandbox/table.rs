//! Objects of one kind, in the order they were made, found by id and by whom they belong to.

#[cfg(feature = "simulation")]
use std::collections::BTreeSet;
use std::collections::HashMap;

/// Something kept in a [`Table`].
pub(super) trait Record {
    /// As in the message "No such payment_intent".
    const OBJECT: &'static str;

    fn id(&self) -> &str;

    fn created(&self) -> i64;

    /// Ids by which lists ask for it, such as its customer.
    fn owners(&self) -> [Option<&str>; 2] {
        [None, None]
    }
}

#[derive(Debug)]
pub(super) struct Table<T> {
    rows: Vec<T>,
    by_id: HashMap<String, usize>,
    by_owner: HashMap<String, Vec<usize>>,
    #[cfg(feature = "simulation")]
    changed: BTreeSet<usize>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            by_id: HashMap::new(),
            by_owner: HashMap::new(),
            #[cfg(feature = "simulation")]
            changed: BTreeSet::new(),
        }
    }
}

impl<T: Record> Table<T> {
    pub(super) fn insert(&mut self, row: T) {
        self.by_id.insert(row.id().to_owned(), self.rows.len());
        self.rows.push(row);
        #[cfg(feature = "simulation")]
        self.changed.insert(self.rows.len() - 1);
        self.index(self.rows.len() - 1);
    }

    pub(super) fn get(&self, id: &str) -> Option<&T> {
        self.by_id.get(id).map(|at| &self.rows[*at])
    }

    pub(super) fn get_mut(&mut self, id: &str) -> Option<&mut T> {
        let at = *self.by_id.get(id)?;
        #[cfg(feature = "simulation")]
        self.changed.insert(at);
        self.rows.get_mut(at)
    }

    /// The rows that were made or touched since this was last asked, oldest first.
    #[cfg(feature = "simulation")]
    pub(super) fn take_changed(&mut self) -> Vec<&T> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().map(|at| &self.rows[at]).collect()
    }

    /// To be called when the owners of a row have changed.
    pub(super) fn reindex(&mut self, id: &str) {
        if let Some(at) = self.by_id.get(id) {
            self.index(*at);
        }
    }

    /// Rows may stay under former owners: readers filter by the row's own fields.
    fn index(&mut self, at: usize) {
        for owner in self.rows[at].owners().into_iter().flatten() {
            if let Some(list) = self.by_owner.get_mut(owner) {
                if let Err(place) = list.binary_search(&at) {
                    list.insert(place, at);
                }
            } else {
                self.by_owner.insert(owner.to_owned(), vec![at]);
            }
        }
    }

    /// Oldest first.
    pub(super) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.rows.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn position(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    /// Positions between `after` and `before` (both left out), oldest first, of one owner or of all.
    pub(super) fn range(
        &self,
        owner: Option<&str>,
        after: Option<usize>,
        before: Option<usize>,
    ) -> Box<dyn DoubleEndedIterator<Item = &T> + '_> {
        let start = after.map_or(0, |at| at + 1);
        let end = before.unwrap_or(self.rows.len()).max(start);
        match owner {
            None => Box::new(self.rows[start..end].iter()),
            Some(owner) => {
                let list = self.by_owner.get(owner).map(Vec::as_slice).unwrap_or_default();
                let first = list.partition_point(|at| *at < start);
                let last = list.partition_point(|at| *at < end);
                Box::new(list[first..last].iter().map(|at| &self.rows[*at]))
            }
        }
    }

    /// Rows of one owner, newest first.
    pub(super) fn newest_of(&self, owner: &str) -> impl Iterator<Item = &T> {
        self.range(Some(owner), None, None).rev()
    }
}
