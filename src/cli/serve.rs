//! `simulate`: the embedded API as a server, or its ids.

use std::net::SocketAddr;
use std::sync::Arc;

use clap::ArgMatches;
use tokio::net::TcpListener;

use super::{CommandOutput, block_on};
use crate::cli::log::log_to;
use crate::cli::progress::LogLines;
use crate::cli::signals::{listen_for_signals, signal};
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::simulator::{self, Simulator};

/// Serves until a signal comes, and prints its account.
pub(super) fn simulate(flags: &ArgMatches) -> Result<CommandOutput, Error> {
    let text = flags.get_one::<String>("spec").map_or("", String::as_str);
    let mut spec: simulator::SimulatorSettings = text.parse().map_err(Error::Spec)?;
    if let Some(count) = flags.get_one::<String>("products") {
        spec.products = count.parse().map_err(|_| Error::Usage("--products must be a whole number"))?;
        return Ok(CommandOutput::Text(spec.ids().fold(String::new(), |text, id| text + &id + "\n")));
    }
    let listen = flags.get_one::<String>("listen").map_or("", String::as_str);
    let address: SocketAddr =
        listen.parse().map_err(|_| Error::Usage("--listen must be an address such as 127.0.0.1:8080"))?;
    if !address.ip().is_loopback() {
        return Err(Error::Usage("--listen must be a loopback address: the simulator is no server for others"));
    }
    let endpoint = Endpoint::parse(crate::endpoint::BUILT_IN).map_err(Error::Endpoint)?;
    let simulator = Arc::new(Simulator::new(&endpoint, spec)?);
    let account = Arc::clone(&simulator);
    block_on(async move {
        let refused = |source| Error::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let bound = listener.local_addr().map_err(refused)?;
        log_to(LogLines(None), crate::cli::log::speaks_json());
        let signals = listen_for_signals()?; // whoever reads the next line may send one
        tracing::info!("serving http://{bound}{}", endpoint.path);
        let stopped = async {
            signal(signals, 1).await;
        };
        let served = simulator::serve(simulator, listener, stopped).await;
        served.map_err(|source| Error::System { action: "serve", source })
    })?;
    Ok(CommandOutput::Text(format!("{}\n", crate::model::sanitize::json(&account.account()))))
}
