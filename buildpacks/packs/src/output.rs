//! Build output in Heroku's form: `-----> ` for a step, seven spaces below it, ` !     ` for what needs attention.

/// A step begins.
pub(crate) fn step(text: impl AsRef<str>) {
    println!("-----> {}", text.as_ref());
}

/// More about the step.
pub(crate) fn detail(text: impl AsRef<str>) {
    println!("{}", indented(text.as_ref()));
}

/// Something the app's author should know; the build goes on.
pub(crate) fn warning(text: impl AsRef<str>) {
    for line in text.as_ref().lines() {
        println!("{}", format!(" !     {line}").trim_end());
    }
}

/// A line below a step.
pub(crate) fn indented(line: &str) -> String {
    format!("       {line}").trim_end().to_owned()
}
