//! A map in many small tables.
//!
//! A hash table that is full moves all that it holds into a larger one: milliseconds for a hundred
//! thousand queues, in the middle of a turn. Here each table holds a small part, and moves alone.
//! Always: an insertion moves about a 256th of what the map holds, however much that is. Who
//! chooses keys that all fall into one table has one table, and no worse.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash};
use std::ops::Index;

use crate::ids::IdHasher;

/// How many tables.
const TABLES: usize = 256;

/// A map by ids that this program has counted out itself, in many tables. The order of a walk is
/// the same in each run.
pub type IdTables<K, V> = Tables<K, V, BuildHasherDefault<IdHasher>>;

/// A map whose tables hash with `S`.
#[derive(Clone, Debug)]
pub struct Tables<K, V, S = std::hash::RandomState> {
    tables: Box<[HashMap<K, V, S>]>,
    len: usize,
}

impl<K, V, S: Default> Default for Tables<K, V, S> {
    fn default() -> Self {
        Self { tables: (0..TABLES).map(|_| HashMap::default()).collect(), len: 0 }
    }
}

/// Which table a key is in. The tables' own hash may be the same one, and takes other bits of it.
fn table_of<Q: Hash + ?Sized>(key: &Q) -> usize {
    let hash = BuildHasherDefault::<IdHasher>::default().hash_one(key);
    (hash >> 40) as usize % TABLES
}

impl<K: Eq + Hash, V, S: BuildHasher> Tables<K, V, S> {
    /// An empty map with room for about so many keys.
    #[must_use]
    pub fn with_room(count: usize) -> Self
    where
        S: Default,
    {
        let some = count / TABLES;
        let table = |_| HashMap::with_capacity_and_hasher(some + some / 8, S::default());
        Self { tables: (0..TABLES).map(table).collect(), len: 0 }
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of a key.
    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.tables[table_of(key)].get(key)
    }

    /// The value of a key, to be changed.
    pub fn get_mut<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.tables[table_of(key)].get_mut(key)
    }

    /// Whether a key is there.
    pub fn contains_key<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// Gives a key a value; the one that it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let old = self.tables[table_of(&key)].insert(key, value);
        self.len += usize::from(old.is_none());
        old
    }

    /// The value of a key, which is given one where it has none.
    pub fn get_or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        let table = &mut self.tables[table_of(&key)];
        self.len += usize::from(!table.contains_key(&key));
        table.entry(key).or_default()
    }

    /// Takes a key out; the value that it had.
    pub fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let old = self.tables[table_of(key)].remove(key);
        self.len -= usize::from(old.is_some());
        old
    }

    /// All keys with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.tables.iter().flatten()
    }

    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.tables.iter().flat_map(HashMap::keys)
    }

    /// All values.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.tables.iter().flat_map(HashMap::values)
    }

    /// All values, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.tables.iter_mut().flat_map(HashMap::values_mut)
    }
}

impl<'a, K, V, S> IntoIterator for &'a mut Tables<K, V, S> {
    type Item = (&'a K, &'a mut V);
    type IntoIter = std::iter::Flatten<std::slice::IterMut<'a, HashMap<K, V, S>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.tables.iter_mut().flatten()
    }
}

impl<K, V, S, Q> Index<&Q> for Tables<K, V, S>
where
    K: Eq + Hash + Borrow<Q>,
    S: BuildHasher,
    Q: Eq + Hash + ?Sized,
{
    type Output = V;

    fn index(&self, key: &Q) -> &V {
        self.get(key).expect("whoever asks so knows that it is there")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::QueueId;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn many_tables_are_one_map(
            steps in proptest::collection::vec((any::<bool>(), 0u64..40, any::<u8>()), 0..200),
        ) {
            let mut tables = IdTables::<QueueId, u8>::default();
            let mut model = std::collections::BTreeMap::new();
            for (put, key, value) in steps {
                let key = QueueId(key);
                if put {
                    prop_assert_eq!(tables.insert(key, value), model.insert(key, value));
                } else {
                    prop_assert_eq!(tables.remove(&key), model.remove(&key));
                }
                prop_assert_eq!(tables.get(&key), model.get(&key));
                prop_assert_eq!((tables.len(), tables.is_empty()), (model.len(), model.is_empty()));
            }
            let all = tables.iter().map(|(key, value)| (*key, *value));
            prop_assert_eq!(all.collect::<std::collections::BTreeMap<_, _>>(), model);
        }
    }

    #[test]
    fn no_insertion_moves_more_than_a_small_part_of_a_large_map() {
        let count = 100_000;
        let (mut ids, mut names) =
            (IdTables::<QueueId, ()>::default(), Tables::<String, ()>::default());
        for number in 0..count {
            ids.insert(QueueId(number), ());
            names.insert(format!("orders.{number:06}.in"), ());
        }
        let most = 3 * count as usize / TABLES;
        let longest = ids.tables.iter().map(HashMap::len).max();
        assert!(longest.is_some_and(|longest| longest < most), "{longest:?} of {count}");
        let longest = names.tables.iter().map(HashMap::len).max();
        assert!(longest.is_some_and(|longest| longest < most), "{longest:?} of {count}");
    }
}
