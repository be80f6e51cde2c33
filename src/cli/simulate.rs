//! `simulate`: serves the simulator on this machine, or prints its ids.

use std::net::SocketAddr;
use std::sync::Arc;

use clap::{Arg, ArgMatches, Command};
use tokio::net::TcpListener;

use super::log::{self, init_for};
use super::progress::LogLines;
use super::signals::{listen_for_signals, signal};
use super::{CommandOutput, block_on};
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::model::sanitize::json;
use crate::settings::parse::whole;
use crate::simulator::{self, Simulator, SimulatorSettings};

pub(super) fn command() -> Command {
    let listen = Arg::new("listen").long("listen").value_name("ADDRESS").default_value("127.0.0.1:8080");
    let count = Arg::new("products").long("products").value_name("N").value_parser(whole);
    let spec = Arg::new("spec").value_name("SPEC").default_value("").hide_default_value(true);
    Command::new("simulate")
        .about("Serve the simulator on this machine until a signal")
        .args([
            listen.help("Address to listen on").value_parser(address),
            count.help("Print N product ids and exit"),
            spec.help("Changes to the defaults, such as seed=7,qps=50,latency=80ms"),
        ])
        .after_help(simulator::settings_help())
}

/// An address of this machine: the simulator accepts any key.
fn address(text: &str) -> Result<SocketAddr, &'static str> {
    let address: SocketAddr = text.parse().map_err(|_| "must be an address such as 127.0.0.1:8080")?;
    let is_local = address.ip().is_loopback();
    is_local.then_some(address).ok_or("must be a loopback address: the simulator is for this machine only")
}

pub(super) fn run(flags: &ArgMatches) -> Result<CommandOutput, Error> {
    let text = flags.get_one::<String>("spec").map_or("", String::as_str);
    let mut spec: SimulatorSettings = text.parse()?;
    if let Some(count) = flags.get_one("products") {
        spec.products = *count;
        return Ok(CommandOutput::text(spec.ids().fold(String::new(), |text, id| text + &id + "\n")));
    }
    let address = flags.get_one("listen").copied().unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8080)));
    let endpoint = Endpoint::parse(crate::endpoint::BUILT_IN).map_err(Error::Endpoint)?;
    let simulator = Arc::new(Simulator::new(&endpoint, spec)?);
    let account = Arc::clone(&simulator);
    block_on(async move {
        let refused = |source| Error::Listen(address, source);
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let bound = listener.local_addr().map_err(refused)?;
        init_for(LogLines(None), log::is_json());
        let signals = listen_for_signals()?; // before the next line: its reader may send one
        tracing::info!("serving http://{bound}{}", endpoint.path);
        let stopped = async {
            signal(signals, 1).await;
        };
        let served = simulator::serve(simulator, listener, stopped).await;
        served.map_err(|source| Error::System("serve the simulator", source))
    })?;
    Ok(CommandOutput::text(format!("{}\n", json(&account.account()))))
}
