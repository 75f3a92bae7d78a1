# Two commands do everything on a fresh Debian or Ubuntu machine: `make demo` and `make test`.
.PHONY: demo demo-stop env test lint

demo: ## the platform with a sample app on it; the last line on stdout is the app's URL
	@scripts/demo

demo-stop: ## ends the demo; its data stay in .paas/demo
	@scripts/demo-stop

env: ## eval "$(make -s env)": paas, git and the heroku CLI point at the demo
	@$${CARGO_TARGET_DIR:-target}/debug/paas-server env --data .paas/demo/data --programs $${CARGO_TARGET_DIR:-target}/debug

test: ## all tests
	@scripts/test

lint: ## formatting and clippy
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
