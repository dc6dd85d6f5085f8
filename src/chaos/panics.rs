//! Panics in a world. Each breaks a law, in whatever task it was and whether or not the service survived it.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// What panicked on this thread, in words.
    static HEARD: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Does something on this thread; what panicked in it meanwhile, caught or not. `None` instead of what comes of it when it
/// panicked itself.
pub fn heard<T>(work: impl FnOnce() -> T) -> (Option<T>, Vec<String>) {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            let text = info.to_string().replace('\n', " ");
            // A thread that is ending has nobody who would ask.
            let _ = HEARD.try_with(|heard| heard.borrow_mut().push(text));
            before(info);
        }));
    });
    HEARD.take();
    let came = catch_unwind(AssertUnwindSafe(work)).ok();
    (came, HEARD.take())
}

#[cfg(test)]
mod tests {
    use super::heard;

    #[test]
    fn no_panic_goes_unheard() {
        assert_eq!(heard(|| 3), (Some(3), Vec::new()));
        let (came, words) = heard(|| -> u8 { panic!("of itself") });
        assert_eq!(came, None);
        assert!(words.len() == 1 && words[0].contains("of itself") && words[0].contains("panics.rs"), "{words:?}");
        // In a task that nobody waits for.
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (came, words) = heard(|| {
            runtime.block_on(async {
                tokio::spawn(async { panic!("in a task") });
                tokio::task::yield_now().await;
                5
            })
        });
        assert_eq!(came, Some(5));
        assert!(words.len() == 1 && words[0].contains("in a task"), "{words:?}");
        assert_eq!(heard(|| ()), (Some(()), Vec::new()), "each is told once");
    }
}
