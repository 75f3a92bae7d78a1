//! The router as a program of its own, for tests that start and adopt one: `router_process router …`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() != Some("router") {
        return Err("the first argument is `router`".into());
    }
    let options = paas_router::RouterOptions::from_args(args)?;
    paas_router::run(&options)?;
    Ok(())
}
