use async_trait::async_trait;
use paas_domain::{DynoName, InstallId};

use super::*;
use crate::{Gap, LinkKey, NumberedLine};

struct Nobody;

#[async_trait]
impl LinkAdmission for Nobody {
    async fn admit(&self, _: &Claim) -> Result<Admitted, Refusal> {
        Err(Refusal::NotNow)
    }
}

#[async_trait]
impl LinkEvents for Nobody {
    async fn connected(&self, _: &LinkedDyno) {}
    async fn started(&self, _: &LinkedDyno, _: &DynoName) {}
    async fn lines(&self, _: &LinkedDyno, _: Vec<NumberedLine>) -> Result<(), PortError> {
        Ok(())
    }
    async fn gap(&self, _: &LinkedDyno, _: Gap) {}
    async fn exited(&self, _: &LinkedDyno, _: u8) {}
    async fn disconnected(&self, _: &LinkedDyno) {}
}

fn hub(of_app: usize, all: usize) -> Hub {
    let options = HubOptions::new(LinkKey::new(&[0; 32], InstallId::random()));
    let options = HubOptions { max_links_per_app: of_app, max_links: all, ..options };
    Hub::new(options, Arc::new(Nobody), Arc::new(Nobody))
}

#[test]
fn an_app_takes_no_more_than_its_places_and_gives_them_back() {
    let (hub, one, two, three) = (hub(2, 3), AppId::new(), AppId::new(), AppId::new());
    let inner = &hub.inner;
    let held = (inner.place(&one).expect("a place"), inner.place(&one).expect("a place"));
    assert!(inner.place(&one).is_none());
    let other = inner.place(&two).expect("another app's");
    assert!(inner.place(&three).is_none(), "all are taken");
    drop(held);
    drop(inner.place(&one).expect("again"));
    drop(other);
    let book = inner.book();
    assert!(book.links.is_empty() && book.all_links == 0);
}

fn hello(app: &AppId, token: &str) -> Hello {
    Hello {
        version: VERSION,
        token: token.to_owned(),
        app: app.to_string(),
        task: "task".to_owned(),
        process_type: "web".to_owned(),
        dyno: String::new(),
        started_as: String::new(),
        attach: false,
        lines_taken: 0,
        output_from: 0,
        input_next: 0,
    }
}

#[tokio::test]
async fn what_does_not_fit_is_refused_before_anyone_is_asked() {
    use secrecy::ExposeSecret as _;

    let (hub, app) = (hub(2, 3), AppId::new());
    let token = hub.inner.options.key.token(&app);
    let good = hello(&app, token.expose_secret());
    let peer = IpAddr::from([127, 0, 0, 1]);
    let refusal = |hello: Hello| {
        let inner = hub.inner.clone();
        async move { inner.admit(&hello, peer).await.err().map(|(refusal, _)| refusal) }
    };
    assert_eq!(refusal(good.clone()).await, Some(Refusal::NotNow), "this one was asked about");
    for bad in [
        Hello { version: 0, ..good.clone() },
        Hello { version: VERSION + 1, ..good.clone() },
        Hello { app: AppId::new().to_string(), ..good.clone() },
        Hello { app: "../etc".to_owned(), ..good.clone() },
        Hello { token: String::new(), ..good.clone() },
        Hello { task: "a\nb".to_owned(), ..good.clone() },
        Hello { process_type: "no/type".to_owned(), ..good.clone() },
        Hello { dyno: "x".to_owned(), ..good.clone() },
        Hello { started_as: "web".to_owned(), ..good.clone() },
    ] {
        assert_eq!(refusal(bad.clone()).await, Some(Refusal::Unknown), "{bad:?}");
    }
    // One that has not been told its task yet asks again soon.
    assert_eq!(refusal(Hello { task: String::new(), ..good.clone() }).await, Some(Refusal::NotNow));
    assert_eq!(hub.inner.book().all_links, 0);
}

#[tokio::test]
async fn a_link_that_stays_down_is_an_error_for_who_reads_and_over_is_an_end() {
    let (hub, app) = (hub(2, 3), AppId::new());
    let id = DynoId::new();
    let hello = Hello { dyno: id.to_string(), ..hello(&app, "") };
    let admitted = Admitted { dyno: id.clone(), name: "run.1".parse().expect("a name") };
    let session = hub.inner.session(&hello, &admitted).expect("room");
    session.state().output.append(b"text\n");
    let mut attached = hub.attach(&id).await.expect("known");
    let mut read = [0; 5];
    attached.read_exact(&mut read).await.expect("what came");
    session.lose();
    let lost = attached.read(&mut read).await.expect_err("lost");
    assert_eq!(lost.kind(), std::io::ErrorKind::ConnectionReset);
    hub.over(&id).await;
    assert_eq!(attached.read(&mut read).await.expect("the end"), 0);
    drop(attached);
    session.leave(&CancellationToken::new());
    hub.inner.sweep(Duration::ZERO);
    assert!(hub.attach(&id).await.is_err_and(|error| error.is_transient()), "forgotten");
}
