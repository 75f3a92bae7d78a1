# Three commands do everything on a fresh Debian or Ubuntu machine: `make demo`, `make demo-aws` and `make test`.
.PHONY: demo demo-stop env demo-aws demo-aws-stop env-aws test test-many lint

demo: ## the platform with a sample app on it; the last line on stdout is the app's URL
	@scripts/demo

demo-stop: ## ends the demo; its data stay in .paas/demo
	@scripts/demo-stop

env: ## eval "$(make -s env)": paas, git and the heroku CLI point at the demo
	@$${CARGO_TARGET_DIR:-target}/debug/paas-server env --data .paas/demo/data --programs $${CARGO_TARGET_DIR:-target}/debug

demo-aws: ## the same on an AWS account that is made on this machine; the last line on stdout is the Flask app's URL
	@scripts/demo-aws

demo-aws-stop: ## ends it, and the account with it
	@scripts/demo-aws-stop

env-aws: ## eval "$(make -s env-aws)": the same programs, and AWS's own, point at that
	@scripts/env-aws

test: ## all tests
	@scripts/test

test-many: ## 130 apps with one image on two load balancers, for as long as AWS's own rates make it take: about 12 minutes
	@scripts/test --test e2e_aws_many -- --nocapture

lint: ## formatting and clippy
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo clippy --workspace --test e2e_aws_many --locked -- -D warnings # which --all-targets leaves out, as its test = false says
