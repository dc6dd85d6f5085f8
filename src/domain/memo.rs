//! Room beside a value for what is worked out of it once and told to many: an offer or an event as bytes of the wire.
//!
//! It is no part of the value: two values are equal whatever is in their memos, and a copy, which may become another value,
//! begins with an empty one.

use std::any::Any;
use std::fmt;
use std::sync::OnceLock;

/// See the module's header.
#[derive(Default)]
pub struct Memo(OnceLock<Box<dyn Any + Send + Sync>>);

impl Memo {
    /// What was put there first, or else is made now. A memo holds one kind of thing; of another it is made anew each time.
    pub fn get_or_make<T: Clone + Send + Sync + 'static>(&self, make: impl Fn() -> T) -> T {
        let kept = self.0.get_or_init(|| Box::new(make()));
        kept.downcast_ref::<T>().map_or_else(make, T::clone)
    }
}

impl Clone for Memo {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Memo {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Memo {}

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memo")
    }
}

#[cfg(test)]
mod tests {
    use super::Memo;
    use std::cell::Cell;

    #[test]
    fn what_is_worked_out_is_kept_and_a_copy_begins_anew() {
        let times = Cell::new(0);
        let make = || {
            times.set(times.get() + 1);
            times.get()
        };
        let memo = Memo::default();
        assert_eq!((memo.get_or_make(make), memo.get_or_make(make)), (1, 1));
        let copy = memo.clone();
        assert_eq!((copy.get_or_make(make), memo.get_or_make(make)), (2, 1));
        assert_eq!(memo, copy, "no part of the value");
    }
}
