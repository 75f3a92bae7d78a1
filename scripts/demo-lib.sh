# Shared by scripts/demo and scripts/demo-aws, whose folder is $demo. Sourced behind lib.sh, not run.
answers() { [ -f "$demo/data/ports.json" ] && "$target/debug/paas-server" ping --data "$demo/data" >/dev/null 2>&1; }

# Starts the server, with these flags besides, unless it answers.
start_server() {
    answers && return 0
    local flags=("$@")
    # A machine behind a proxy trusts more authorities than the images do.
    if [ -n "${PAAS_CA_BUNDLE:-${SSL_CERT_FILE:-}}" ]; then flags+=(--ca-bundle "${PAAS_CA_BUNDLE:-$SSL_CERT_FILE}"); fi
    setsid nohup "$target/debug/paas-server" serve --data "$demo/data" --builder "$builder" --run-image "$run" \
        --tools "$tools" "${flags[@]}" >>"$demo/server.log" 2>&1 </dev/null &
    for _ in $(seq 300); do
        answers && return 0
        sleep 0.1
    done
    tail -20 "$demo/server.log" >&2
    fail "the server did not start: see $demo/server.log"
}

# A sample app (NAME FIXTURE): a repository of its own, pushed as anybody would.
push() {
    local name=$1 fixture=$2 app=$demo/$1
    if [ ! -d "$app/.git" ]; then
        mkdir -p "$app"
        cp -r "$repo/tests/fixtures/apps/$fixture/." "$app/"
        git -C "$app" init -q -b main
        git -C "$app" -c user.name=demo -c user.email=demo@example.com add -A
        git -C "$app" -c user.name=demo -c user.email=demo@example.com commit -q -m "Hello"
    fi
    cd "$app"
    paas apps:info -a "$name" >/dev/null 2>&1 || paas apps:create "$name" >&2
    git remote get-url aws >/dev/null 2>&1 || paas git:remote -a "$name" >&2
    git push aws main >&2
}
