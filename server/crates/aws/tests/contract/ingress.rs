//! The ingress's promises on load balancers, and what is AWS's own: shards, drift, records, certificates.
//!
//! Requests go through the rig's front door (`PAAS_TEST_AWS_FRONT_443`), which is Route 53 and every balancer of the
//! account. Each test has an installation, a domain and balancers of its own.

mod alb_only;
mod bench;
mod world;

mod alb {
    use super::bench::AlbBench;

    paas_ports::ingress_contract!(AlbBench);
}
