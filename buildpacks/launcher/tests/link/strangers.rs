//! Who is not let in, and what the hub does with what is no frame.

use std::sync::Arc;
use std::time::Duration;

use paas_domain::AppId;
use secrecy::ExposeSecret as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::world::{SOON, World, ended};

async fn connect(world: &World) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(world.ca.as_bytes()).expect("PEM")).expect("a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(world.at).await.expect("connects");
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await.expect("shakes hands")
}

/// What the hub says until it hangs up.
async fn answer(stream: &mut TlsStream<TcpStream>) -> Vec<u8> {
    let mut got = Vec::new();
    let _ = timeout(SOON, stream.read_to_end(&mut got)).await.expect("it ends");
    got
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_refused_and_the_app_runs_all_the_same() {
    let world = World::new().await;
    let other = world.key.token(&AppId::new());
    let mut dyno = world.launcher("web.1", "echo $DYNO");
    let (status, out, err) = ended(dyno.env("PAAS_LINK_TOKEN", other.expose_secret()).spawn().expect("starts")).await;
    assert!(status == Some(0) && out.starts_with("web.") && out != "web.1\n" && err.is_empty(), "{out} {err}");
    assert!(world.server.claims.lock().expect("lock").is_empty(), "nobody even asks about it");
    // Whoever is to be attached to says why nobody can.
    let (_, mut dyno) = world.run("echo ran");
    let (status, out, err) = ended(dyno.env("PAAS_LINK_TOKEN", "nonsense").spawn().expect("starts")).await;
    assert_eq!((status, out.as_str()), (Some(126), ""));
    assert_eq!(err, "launcher: the platform refused this dyno's link: the token is not the app's\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_not_known_is_refused() {
    let world = World::new().await;
    let (_, mut dyno) = world.run("echo ran");
    let dyno = dyno.env_remove("ECS_CONTAINER_METADATA_URI_V4").env("PAAS_DYNO_ID", AppId::new().as_str());
    let (status, _, err) = ended(dyno.spawn().expect("starts")).await;
    assert_eq!(status, Some(126));
    assert_eq!(err, "launcher: the platform refused this dyno's link: the task is not one of this app's\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_with_another_certificate_is_not_spoken_to() {
    let (world, other) = (World::new().await, World::new().await);
    let mut dyno = world.launcher("web.1", "echo up");
    let (status, out, _) = ended(dyno.env("PAAS_LINK_CA", &other.ca).spawn().expect("starts")).await;
    assert_eq!((status, out.as_str()), (Some(0), "up\n"));
    assert!(world.server.claims.lock().expect("lock").is_empty());
    let mut dyno = world.launcher("web.1", "echo up");
    let (status, out, _) = ended(dyno.env("PAAS_LINK_CA", "not PEM").spawn().expect("starts")).await;
    assert_eq!((status, out.as_str()), (Some(0), "up\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_hold_nobody_up_and_are_dropped() {
    let world = World::new().await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(world.at).await.expect("connects"));
    }
    let mut slow = connect(&world).await;
    slow.write_all(&[0, 0]).await.expect("writes");
    let dyno = world.launcher("web.1", "echo $DYNO").spawn().expect("starts");
    assert_eq!(ended(dyno).await.0, Some(0));
    world.heard("the dyno among them", |heard| heard.exited == [0]).await;
    for mut silent in silent {
        let mut got = [0; 64];
        let read = timeout(Duration::from_secs(30), silent.read(&mut got)).await.expect("dropped in time");
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
    assert_eq!(answer(&mut slow).await, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_hello_gets_no_answer() {
    let world = World::new().await;
    for first in [
        b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n".as_slice(),
        &[0xff, 0xff, 0xff, 0xff, 1],
        &[0, 0, 0, 0, 8],
        &[0, 0, 0, 3, 1, 1, 0xff, 0xff],
        &[0, 0, 0, 0, 99],
    ] {
        let mut stream = connect(&world).await;
        stream.write_all(first).await.expect("writes");
        assert_eq!(answer(&mut stream).await, b"", "{first:?}");
    }
    assert!(world.server.claims.lock().expect("lock").is_empty());
}
