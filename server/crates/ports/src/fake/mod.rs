//! Drivers without an outside: they obey the same rules, and their world outlives the server under test.
