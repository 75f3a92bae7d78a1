//! What every runtime promises.
//!
//! Two lists of them: [`runtime_contract!`](crate::runtime_contract) for drivers that start, stop and register dynos
//! themselves, [`scheduled_runtime_contract!`](crate::scheduled_runtime_contract) for a platform with a scheduler of
//! its own. What the latter does not promise, and why:
//!
//! | promise | in its place |
//! | --- | --- |
//! | a crash waits for `revive` | the scheduler replaces it at once; only a loop is rested |
//! | a failed rollout stands still | the scheduler tries it a few times more and then goes back |
//! | a stopped dyno's place stays empty | the scheduler fills it |
//! | the highest slots go | the scheduler chooses who goes |
//! | old or new ones are whole at every moment | never fewer than wanted |
//! | in-flight requests are asked for | the balancer drains for a fixed time (shown under load, end to end) |
//!
//! Dynos run the words of [`crate::fake::runtime::script`]; a bench for real containers has an image whose
//! launcher knows them.

pub mod bench;
mod one_off;
mod rollout;
mod scheduled;

pub use self::bench::{RuntimeBench, WatchedPools};
pub use self::one_off::*;
pub use self::rollout::*;
pub use self::scheduled::*;

/// Every promise, as tests for one bench.
#[macro_export]
macro_rules! runtime_contract {
    ($bench:ty) => {
        $crate::contract_tests!(
            runtime,
            RuntimeBench,
            $bench,
            [
                ensure_twice_equals_once,
                zero_stops_all,
                removing_what_is_gone_succeeds,
                new_serves_before_old_stops,
                an_unhealthy_release_leaves_the_old_one_serving,
                a_crashed_dyno_is_seen_and_comes_back_with_revive_only,
                a_worker_is_up_without_a_port,
                config_arrives_byte_for_byte,
                two_apps_never_meet,
                stop_is_sigterm_then_sigkill,
                a_dyno_in_use_is_drained_first,
                a_lower_generation_is_superseded,
                others_are_untouched,
                remove_app_leaves_nothing,
                a_higher_restart_number_replaces,
                lines_of_dynos_that_never_served_arrive,
                scaling_down_gives_back_the_highest_slots,
                a_new_driver_goes_on_where_the_old_one_was,
                an_ensure_cut_short_leaves_nothing_half,
                a_one_off_dyno_starts_once,
                a_piped_dyno_reads_stdin_and_its_exit_code_comes_back,
                an_attached_dyno_starts_when_attached,
                a_dyno_stopped_before_it_was_attached_never_runs,
                a_forgotten_dyno_never_starts_again,
                output_without_stdin_can_be_read_from_its_first_byte,
            ]
        );
    };
}

/// Every promise where the platform has a scheduler of its own, as tests for one bench.
#[macro_export]
macro_rules! scheduled_runtime_contract {
    ($bench:ty) => {
        $crate::contract_tests!(
            runtime,
            RuntimeBench,
            $bench,
            [
                ensure_twice_equals_once,
                zero_stops_all,
                removing_what_is_gone_succeeds,
                never_fewer_than_wanted_in_a_rollout,
                an_unhealthy_release_fails_at_once_and_the_old_one_serves_on,
                a_crashed_dyno_is_seen_and_replaced_in_its_slot,
                a_first_release_that_ends_at_once_rests_until_it_is_revived,
                a_worker_is_up_without_a_port,
                config_arrives_byte_for_byte,
                two_apps_never_meet,
                a_stopped_dyno_gets_sigterm_then_sigkill_and_is_replaced,
                a_lower_generation_is_superseded,
                others_are_untouched,
                remove_app_leaves_nothing,
                a_higher_restart_number_replaces,
                scaling_down_keeps_as_many_as_are_wanted,
                a_new_driver_goes_on_with_the_rollout,
                an_ensure_cut_short_leaves_nothing_half,
                a_one_off_dyno_starts_once,
                a_piped_dyno_reads_stdin_and_its_exit_code_comes_back,
                an_attached_dyno_starts_when_attached,
                a_dyno_stopped_before_it_was_attached_never_runs,
                a_forgotten_dyno_never_starts_again,
                output_without_stdin_can_be_read_from_its_first_byte,
            ]
        );
    };
}
