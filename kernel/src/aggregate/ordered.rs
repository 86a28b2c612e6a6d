//! `first`, `last` and `last_n`: the values of the earliest or latest events.

use smallvec::SmallVec;

use super::Function;
use crate::codec::{DecodeError, Reader, Writer};
use crate::defect::defect;
use crate::event::{Order, Partition};
use crate::time::Time;
use crate::value::{Type, Value};

/// Which end of the order of events, and how many values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Which {
    /// The first value.
    First,
    /// The last so many values.
    Last(u32),
}

/// Values at one end of the order (event time, partition, offset), the outermost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ordered {
    which: Which,
    kept: SmallVec<[(Order, Value); 1]>,
}

impl Ordered {
    pub(super) fn empty(which: Which) -> Self {
        Self { which, kept: SmallVec::new() }
    }

    pub(super) fn apply(&mut self, value: &Value, order: Order) {
        let place = match self.which {
            Which::First => self.kept.partition_point(|(kept, _)| *kept < order),
            Which::Last(_) => self.kept.partition_point(|(kept, _)| *kept > order),
        };
        if place < self.capacity() {
            self.kept.truncate(self.capacity() - 1);
            self.kept.insert(place, (order, value.clone()));
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (order, value) in &other.kept {
            self.apply(value, *order);
        }
    }

    pub(super) fn finish(&self, function: Function) -> Value {
        match (function, self.kept.first()) {
            (_, None) => Value::Null,
            (Function::LastN(_), Some(_)) => {
                Value::List(self.kept.iter().map(|(_, value)| value.clone()).collect())
            }
            (Function::First | Function::Last, Some((_, value))) => value.clone(),
            (other, Some(_)) => defect("values in order are finished as first, last or last_n", &other),
        }
    }

    const fn capacity(&self) -> usize {
        match self.which {
            Which::First => 1,
            Which::Last(n) => n as usize,
        }
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        out.varint(self.kept.len() as u64);
        for (order, value) in &self.kept {
            out.zigzag(order.event_time.millis());
            out.zigzag(i64::from(order.partition.0));
            out.zigzag(order.offset);
            value.encode(out);
        }
    }

    pub(super) fn decode(ty: Type, which: Which, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut state = Self::empty(which);
        let count = from.count(4)?;
        if count > state.capacity() {
            return Err(from.malformed("as many values as the aggregate keeps"));
        }
        for _ in 0..count {
            let event_time = Time::from_millis(from.zigzag()?);
            let partition = i32::try_from(from.zigzag()?).map_err(|_| from.malformed("a partition"))?;
            let order = Order { event_time, partition: Partition(partition), offset: from.zigzag()? };
            let outwards = state.kept.last().is_none_or(|(last, _)| match which {
                Which::First => *last < order,
                Which::Last(_) => *last > order,
            });
            if !outwards {
                return Err(from.malformed("values in order"));
            }
            state.kept.push((order, Value::decode(ty, from)?));
        }
        Ok(state)
    }
}
