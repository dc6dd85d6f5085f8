//! Room beside a value for what is worked out of it once and told to many: an offer or an event as bytes of the wire, or as
//! JSON.
//!
//! It is no part of the value: two values are equal whatever is in their memos, and a copy, which may become another value,
//! begins with an empty one.

use std::any::Any;
use std::fmt;
use std::sync::OnceLock;

/// See the module's header.
#[derive(Default)]
pub struct Memo([OnceLock<Box<dyn Any + Send + Sync>>; 2]);

impl Memo {
    /// What was put there first, or else is made now. A memo holds two kinds of things, one of each; of a third it is made
    /// anew each time.
    pub fn get_or_make<T: Clone + Send + Sync + 'static>(&self, make: impl Fn() -> T) -> T {
        let kept = |slot: &OnceLock<Box<dyn Any + Send + Sync>>| slot.get_or_init(|| Box::new(make())).downcast_ref::<T>().cloned();
        self.0.iter().find_map(kept).unwrap_or_else(make)
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

        let word = || format!("{}", make());
        assert_eq!((memo.get_or_make(word), memo.get_or_make(word), memo.get_or_make(make)), ("3".to_owned(), "3".to_owned(), 1), "two kinds");
        let third = || u8::try_from(make()).unwrap();
        assert_eq!((memo.get_or_make(third), memo.get_or_make(third)), (4, 5));
    }
}
