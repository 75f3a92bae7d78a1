//! Where a case of the catalogue is shown that the suite of its class does not run.

use std::path::Path;

/// Checks that `place`, as `path/of/file.rs::function`, is a function of our sources: a test that was renamed or
/// removed does not stay behind as an excuse.
///
/// # Panics
/// When it is not there.
pub fn assert_is_there(id: &str, place: &str) {
    let (file, function) = place.split_once("::").unwrap_or_else(|| panic!("{id}: {place} names no function"));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{id}: {}: {e}", file.display()));
    let is_there = [format!("fn {function}("), format!("fn {function}<")].iter().any(|head| text.contains(head));
    assert!(is_there, "{id}: {} has no function {function}", file.display());
}

#[cfg(test)]
mod tests {
    use super::assert_is_there;

    #[test]
    fn what_is_there_is_found() {
        assert_is_there("this", "tests/src/shown.rs::assert_is_there");
    }

    #[test]
    #[should_panic(expected = "has no function assert_is")]
    fn the_beginning_of_a_name_is_not_enough() {
        assert_is_there("this", "tests/src/shown.rs::assert_is");
    }
}
