//! What an app lives through.

use std::time::Duration;

use paas_tests::platform::{Platform, Ran};

use crate::MARK;
use crate::canary::Canary;

/// What an app lives through, with the value in its config vars. Answers what the commands printed, but for those that
/// are asked for the value.
pub(crate) fn live(platform: &Platform, canary: &Canary) -> Vec<Ran> {
    let soon = platform.soon() * 3;
    let app = platform.repository("flask");
    app.write("Procfile", "web: gunicorn app:app --bind 0.0.0.0:$PORT\nrelease: python -c 'print(\"released\")'\n");
    app.write("mark.txt", &format!("{MARK}\n"));
    app.commit("A release phase");
    app.paas("create secretive").done();
    app.paas(&format!("config:set SECRET={} GREETING=hi", canary.value)).done();
    app.paas(&format!("config:set UNSET={}", canary.unset)).done();
    app.paas("config:unset UNSET").done();
    let mut told = vec![app.push().done()];
    platform.serves("secretive", "GREETING=hi", soon);
    // The app itself knows it.
    let known = app.run(&["paas", "run", "--no-tty", "python", "-c", "import os; print(len(os.environ['SECRET']))"]);
    assert_eq!(known.clone().done().stdout.trim(), canary.value.len().to_string());
    told.push(known);
    told.push(app.run(&["paas", "run:detached", "--", "python", "-c", "import os; os.environ['SECRET']"]).done());
    told.push(app.paas("config:set GREETING=ho").done());
    platform.serves("secretive", "GREETING=ho", soon);
    told.push(app.paas("restart").done());

    // Errors: a build, a release phase and a dyno that fail.
    app.write(".python-version", "2.7\n");
    app.commit("Fails to build");
    told.push(app.push().exits(1));
    app.write(".python-version", "");
    app.git("rm -q --cached .python-version").done();
    std::fs::remove_file(app.folder().join(".python-version")).expect("removed");
    app.write("Procfile", "web: gunicorn app:app\nrelease: exit 3\n");
    app.commit("Fails to release");
    told.push(app.push().exits(1));
    app.write("Procfile", "web: exit 4\n");
    app.commit("Fails to start");
    told.push(app.push().exits(1));
    for words in ["releases", "releases:output v8", "ps", "apps:info", "builds", "logs -n 1500"] {
        told.push(app.paas(words));
    }

    // The server dies and comes back.
    platform.kill_server();
    platform.start_server(&[]);
    platform.serves("secretive", "GREETING=ho", soon);
    told.push(app.paas("rollback v7").done());
    platform.serves("secretive", "GREETING=ho", soon);
    told.push(app.paas("restart").done());
    std::thread::sleep(Duration::from_secs(2));
    told.push(app.paas("logs -n 1500").done());
    told
}
