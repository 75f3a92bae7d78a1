//! What a dyno is called when nobody told it its slot in time.

/// The id at the end of a task's ARN (`arn:aws:ecs:…:task/<cluster>/<id>`), or of its metadata address.
#[must_use]
pub fn task_id(task: &str) -> &str {
    task.rsplit('/').next().unwrap_or(task)
}

/// `<type>.<five digits>`, always the same for a task: FNV-1a (64 bits) over its id, put between 10000 and 99999,
/// where no slot of a formation is.
#[must_use]
pub fn fallback_name(process_type: &str, task: &str) -> String {
    let hash = task_id(task)
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{process_type}.{}", FALLBACK + hash % 90_000)
}

/// The lowest number of a [`fallback_name`].
const FALLBACK: u64 = 10_000;

/// Whether a dyno's number is one of [`fallback_name`], and no slot nor a one-off dyno's own.
#[must_use]
pub fn is_fallback(number: u64) -> bool {
    number >= FALLBACK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_always_has_the_same_name() {
        let arn = "arn:aws:ecs:eu-west-1:123456789012:task/paas-abc123/0f9de17a6465404e8b1b2356dc13c2f8";
        assert_eq!(task_id(arn), "0f9de17a6465404e8b1b2356dc13c2f8");
        assert_eq!(fallback_name("web", arn), fallback_name("web", "0f9de17a6465404e8b1b2356dc13c2f8"));
        assert_ne!(fallback_name("web", arn), fallback_name("web", "1f9de17a6465404e8b1b2356dc13c2f8"));
        for task in ["", "x", arn] {
            let name = fallback_name("worker", task);
            let slot: u32 = name.strip_prefix("worker.").expect("the type").parse().expect("a number");
            assert!((10_000..100_000).contains(&slot), "{name}");
        }
    }
}
