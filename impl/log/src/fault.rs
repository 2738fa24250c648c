//! Where a test lets the process end between two operations on files.

use std::io;

/// The process may end here.
#[cfg(not(test))]
pub(crate) fn point() -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
thread_local! {
    /// How many more points are passed; none left, and every later one fails as well.
    static LEFT: std::cell::Cell<Option<usize>> = const { std::cell::Cell::new(None) };
    static ENDED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

#[cfg(test)]
pub(crate) fn point() -> io::Result<()> {
    match LEFT.get() {
        None => Ok(()),
        Some(0) => {
            ENDED.set(true);
            Err(io::Error::other("the process has ended"))
        }
        Some(n) => {
            LEFT.set(Some(n - 1));
            Ok(())
        }
    }
}

/// Ends the process after so many points, or never.
#[cfg(test)]
pub(crate) fn end_after(points: Option<usize>) {
    LEFT.set(points);
    ENDED.set(false);
}

/// Has it come to that?
#[cfg(test)]
pub(crate) fn has_ended() -> bool {
    ENDED.get()
}
