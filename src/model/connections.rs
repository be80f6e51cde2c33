//! Accepts TCP connections, for the servers of this program: the simulator, and `serve`.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

/// The pause after a connection could not be accepted, for example without a free file descriptor.
const PAUSE: Duration = Duration::from_millis(10);
/// Consecutive failures after which nothing is accepted any more: a second of them.
const MAX_FAILURES: u32 = 100;

/// Serves each connection in a task, and returns only when none can be accepted. When this is dropped, all are closed.
///
/// `most`: how many may be open. One more closes the oldest, so that clients that do nothing keep nobody out.
pub(crate) async fn serve_connections<F>(
    listener: &TcpListener,
    most: Option<usize>,
    serve: impl Fn(TcpStream) -> F,
) -> io::Error
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    let mut oldest_first: VecDeque<AbortHandle> = VecDeque::new();
    let mut failures = 0;
    loop {
        tokio::select! {
            biased;
            Some(_ended) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    failures = 0;
                    let connection = connections.spawn(serve(stream));
                    if let Some(most) = most {
                        oldest_first.retain(|connection| !connection.is_finished());
                        oldest_first.push_back(connection);
                        if oldest_first.len() > most && let Some(oldest) = oldest_first.pop_front() {
                            oldest.abort();
                        }
                    }
                }
                Err(error) if failures == MAX_FAILURES => return error,
                Err(_) => {
                    failures += 1;
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::serve_connections;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    /// Sends what it gets, until the client leaves.
    async fn echo(mut stream: TcpStream) {
        let mut byte = [0];
        while stream.read_exact(&mut byte).await.is_ok() && stream.write_all(&byte).await.is_ok() {}
    }

    async fn is_served(client: &mut TcpStream) -> bool {
        let mut byte = [0];
        client.write_all(b"x").await.is_ok() && client.read_exact(&mut byte).await.is_ok()
    }

    #[tokio::test]
    async fn one_connection_more_than_allowed_closes_the_oldest_and_the_end_closes_all() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connect = || async { TcpStream::connect(address).await.unwrap() };
        let mut clients = Vec::new();
        let check = async {
            for _ in 0..5 {
                let mut client = connect().await;
                assert!(is_served(&mut client).await);
                clients.push(client);
            }
            let mut served = Vec::new();
            for client in &mut clients {
                served.push(is_served(client).await);
            }
            assert_eq!(served, [false, false, true, true, true]);
        };
        tokio::select! {
            error = serve_connections(&listener, Some(3), echo) => panic!("{error}"),
            () = check => {}
        }
        assert!(!is_served(&mut clients[2]).await && !is_served(&mut clients[3]).await);
    }
}
