//! `paas-server`: the platform in one binary. Each role is a command; git's hooks are the same file by another name.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use paas_server::data_folder::DataFolder;
use paas_server::{env, git, install, start};

/// Heroku's workflow on your own machine or AWS account.
#[derive(Parser)]
#[command(name = "paas-server", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// run the platform: API, git, builds, and the loops behind them
    Serve(Box<start::Options>),
    /// build what the platform stands on in an AWS account; can be run again at any time
    Install(Box<install::Options>),
    /// run the router; `serve` starts it by itself and it outlives the server
    #[command(disable_help_flag = true)]
    Router {
        /// as `serve` writes them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// print the variables that point paas, git and the heroku CLI at this platform
    Env {
        #[command(flatten)]
        data: Data,
        /// the folder with the program `paas`
        #[arg(long)]
        programs: Option<PathBuf>,
    },
    /// succeed when the server answers
    Ping(Data),
    /// end the server, its router and every dyno; the data stay
    Down {
        #[command(flatten)]
        data: Data,
        /// the Docker engine's socket
        #[arg(long, env = "PAAS_DOCKER_SOCKET", default_value = "/var/run/docker.sock")]
        docker_socket: PathBuf,
    },
}

#[derive(clap::Args)]
struct Data {
    /// the folder in which the installation keeps its data
    #[arg(long, env = "PAAS_DATA")]
    data: PathBuf,
}

fn main() -> ExitCode {
    // git starts its hooks by links to this program.
    let name = std::env::args_os().next().unwrap_or_default();
    if git::hook::is_hook(&name) {
        return git::hook::main();
    }
    // The one provider of TLS; an error means that it is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let done = match Cli::parse().command {
        Command::Serve(options) => start::serve(*options),
        Command::Install(options) => install::run(*options),
        Command::Router { args } => start::router(args),
        Command::Env { data, programs } => print_env(&data, programs),
        Command::Ping(data) => DataFolder::open(&data.data).map_err(Into::into).and_then(|data| start::ping(&data)),
        Command::Down { data, docker_socket } => start::down(&data.data, &docker_socket),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!(" !     {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print_env(data: &Data, programs: Option<PathBuf>) -> anyhow::Result<()> {
    let data = DataFolder::open(&data.data)?;
    let ports = data.known_ports().context("the platform has not started yet")?;
    let programs = programs.map(|folder| folder.canonicalize()).transpose()?;
    print!("{}", env::exports(&data, &ports, programs.as_deref())?);
    Ok(())
}
