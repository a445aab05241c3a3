//! A map by queues, whose ids are counted out one after the other.
//!
//! With ten thousand queues each message finds nothing of its own queue in the processor's caches:
//! what counts is how many cold places of memory a look touches. Here ids that follow each other
//! lie side by side in one block, and the tree of the blocks is small enough to stay near. Always:
//! no block is empty; a walk is in the order of the ids; an insertion moves nothing but a few words
//! of the tree. A queue whose neighbours are not there pays for the room of all of its block.

use std::collections::BTreeMap;
use std::ops::Index;

use crate::ids::QueueId;

/// Ids that share a block.
const BLOCK: usize = 16;

/// A value for each of some queues.
#[derive(Clone, Debug)]
pub struct ByQueue<V> {
    blocks: BTreeMap<u64, Block<V>>,
    len: usize,
}

#[derive(Clone, Debug)]
struct Block<V> {
    slots: Box<[Option<V>; BLOCK]>,
    used: usize,
}

impl<V> Default for Block<V> {
    fn default() -> Self {
        Self { slots: Box::new([const { None }; BLOCK]), used: 0 }
    }
}

impl<V> Default for ByQueue<V> {
    fn default() -> Self {
        Self { blocks: BTreeMap::new(), len: 0 }
    }
}

/// The block of an id, and its slot there.
fn place_of(id: QueueId) -> (u64, usize) {
    (id.0 / BLOCK as u64, (id.0 % BLOCK as u64) as usize)
}

fn id_of(block: u64, slot: usize) -> QueueId {
    QueueId(block * BLOCK as u64 + slot as u64)
}

impl<V> ByQueue<V> {
    /// How many queues have a value.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of a queue.
    #[must_use]
    pub fn get(&self, id: &QueueId) -> Option<&V> {
        let (block, slot) = place_of(*id);
        self.blocks.get(&block)?.slots[slot].as_ref()
    }

    /// The value of a queue, to be changed.
    pub fn get_mut(&mut self, id: &QueueId) -> Option<&mut V> {
        let (block, slot) = place_of(*id);
        self.blocks.get_mut(&block)?.slots[slot].as_mut()
    }

    /// Whether a queue has a value.
    #[must_use]
    pub fn contains_key(&self, id: &QueueId) -> bool {
        self.get(id).is_some()
    }

    /// Gives a queue a value; the one that it had.
    pub fn insert(&mut self, id: QueueId, value: V) -> Option<V> {
        let (block, slot) = place_of(id);
        let block = self.blocks.entry(block).or_default();
        let old = block.slots[slot].replace(value);
        block.used += usize::from(old.is_none());
        self.len += usize::from(old.is_none());
        old
    }

    /// The value of a queue, which is given one where it has none.
    pub fn get_or_insert_with(&mut self, id: QueueId, value: impl FnOnce() -> V) -> &mut V {
        let (block, slot) = place_of(id);
        let block = self.blocks.entry(block).or_default();
        let is_new = block.slots[slot].is_none();
        block.used += usize::from(is_new);
        self.len += usize::from(is_new);
        block.slots[slot].get_or_insert_with(value)
    }

    /// Takes a queue's value out.
    pub fn remove(&mut self, id: &QueueId) -> Option<V> {
        let (number, slot) = place_of(*id);
        let block = self.blocks.get_mut(&number)?;
        let old = block.slots[slot].take()?;
        block.used -= 1;
        self.len -= 1;
        if block.used == 0 {
            self.blocks.remove(&number);
        }
        Some(old)
    }

    /// All queues that have a value, with it.
    pub fn iter(&self) -> impl Iterator<Item = (QueueId, &V)> {
        self.blocks.iter().flat_map(|(block, it)| {
            let slots = it.slots.iter().enumerate();
            slots.filter_map(|(slot, value)| Some((id_of(*block, slot), value.as_ref()?)))
        })
    }

    /// As `iter`, with values that can be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (QueueId, &mut V)> {
        self.blocks.iter_mut().flat_map(|(block, it)| {
            let slots = it.slots.iter_mut().enumerate();
            slots.filter_map(|(slot, value)| Some((id_of(*block, slot), value.as_mut()?)))
        })
    }

    /// All values.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// All values, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.iter_mut().map(|(_, value)| value)
    }

    /// All values, to be kept.
    pub fn into_values(self) -> impl Iterator<Item = V> {
        self.blocks.into_values().flat_map(|block| (*block.slots).into_iter().flatten())
    }
}

impl<V> Index<&QueueId> for ByQueue<V> {
    type Output = V;

    fn index(&self, id: &QueueId) -> &V {
        self.get(id).expect("whoever asks so knows that it is there")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn blocks_are_one_map_in_the_order_of_ids_and_none_is_empty(
            steps in proptest::collection::vec((0u8..3, 0u64..70, any::<u8>()), 0..200),
        ) {
            let (mut map, mut model) = (ByQueue::<u8>::default(), BTreeMap::new());
            for (what, id, value) in steps {
                let id = QueueId(id);
                match what {
                    0 => prop_assert_eq!(map.insert(id, value), model.insert(id, value)),
                    1 => {
                        let known = *map.get_or_insert_with(id, || value);
                        prop_assert_eq!(known, *model.entry(id).or_insert(value));
                    }
                    _ => prop_assert_eq!(map.remove(&id), model.remove(&id)),
                }
                prop_assert_eq!(map.get(&id), model.get(&id));
                prop_assert_eq!(map.get_mut(&id), model.get_mut(&id));
                prop_assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
            }
            let all: Vec<_> = map.iter().map(|(id, value)| (id, *value)).collect();
            prop_assert!(all.iter().copied().eq(model.iter().map(|(id, value)| (*id, *value))));
            prop_assert!(map.iter_mut().map(|(id, value)| (id, *value)).eq(all.iter().copied()));
            let blocks: std::collections::BTreeSet<_> = all.iter().map(|it| it.0.0 / 16).collect();
            prop_assert_eq!(map.blocks.len(), blocks.len());
            prop_assert!(map.into_values().eq(all.into_iter().map(|(_, value)| value)));
        }
    }
}
