# Two commands do everything on a fresh Debian or Ubuntu that has a Rust toolchain: `make demo` and `make test`.

CARGO ?= cargo
LHRUN  = $(CARGO) run --quiet --locked --

.PHONY: help
help: ## Show the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 24

.PHONY: demo
demo: demo-packages ## Install what is missing, build, and run the disaster drill on the embedded cluster
	$(CARGO) build --locked
	$(LHRUN) --sandbox --yes runbooks/dr-drill.rhai

.PHONY: test
test: test-packages ## Install what the tests need and run all of them: format, lints, unit and integration tests
	@if $(CARGO) fmt --version >/dev/null 2>&1; then $(CARGO) fmt --check; else echo "WARNING: rustfmt is not installed: the format was NOT checked" >&2; fi
	@if $(CARGO) clippy --version >/dev/null 2>&1; then $(CARGO) clippy --locked --all-targets -- -D warnings; else echo "WARNING: clippy is not installed: lints were NOT checked" >&2; fi
	$(CARGO) test --locked

FUZZ_SECONDS ?= 20
FUZZ_SEEDS = tests/fixtures/longhorn
.PHONY: fuzz
fuzz: ## Feed arbitrary bytes to each parser for FUZZ_SECONDS (20)
	@$(CARGO) fuzz --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-fuzz
	@for target in $$(sed -n 's/^name = "\([a-z_]*\)"$$/\1/p' fuzz/Cargo.toml); do \
		mkdir -p fuzz/corpus/$$target && \
		RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --dev -s none $$target fuzz/corpus/$$target $(FUZZ_SEEDS) -- \
			-max_total_time=$(FUZZ_SECONDS) -max_len=65536 -rss_limit_mb=1024 -timeout=10 -verbosity=0 -print_final_stats=1 || exit 1; \
	done

.PHONY: real-servers test-real
real-servers: ## Build the servers of the second test tier into the user's cache, once: etcd, Kubernetes, MinIO, SeaweedFS
	@tests/real/build
test-real: test-packages ## Run the same scenarios, the drill and Longhorn's schemas on those servers; needs Go and pip
	@servers=$$(tests/real/build) && cat "$$servers/versions" && \
		LHRUN_REAL="$$servers" $(CARGO) test --locked --test it real:: -- --ignored --nocapture --test-threads=1

.PHONY: test-mission
test-mission: test-packages ## Lose a site of twenty volumes on the embedded cluster and bring it back, through the targets below
	$(CARGO) test --locked --test it mission:: -- --ignored --nocapture

.PHONY: demo-packages test-packages
demo-packages:
	@.ci/packages initdb=postgresql mke2fs=e2fsprogs setpriv=util-linux cc=build-essential
test-packages:
	@.ci/packages initdb=postgresql mke2fs=e2fsprogs setpriv=util-linux cc=build-essential rclone=rclone qemu-img=qemu-utils \
		mariadbd=mariadb-server-core mariadb=mariadb-client-core redis-server=redis-server sqlite3=sqlite3
	@command -v kubectl >/dev/null || echo "WARNING: kubectl is not installed: the kubectl transcript will NOT be run" >&2

# The operator's own cluster. `KUBECONFIG` and lhrun.toml say which and how: the parameters of the runbooks, such as
# `strategy = "volumes"`, stand in its table [params]. With a built binary: make LHRUN=lhrun restore-cluster
.PHONY: drill backup-cluster-state teardown-gate restore-cluster verify-cluster
drill: ## Run the disaster drill on the cluster of lhrun.toml (destroys it; asks first)
	$(LHRUN) runbooks/dr-drill.rhai
backup-cluster-state: ## Back up every volume, export the cluster's state, and take a system backup
	@code=0; for runbook in backup-now export-state system-backup; do \
		echo "$(LHRUN) runbooks/$$runbook.rhai"; \
		$(LHRUN) runbooks/$$runbook.rhai || code=$$?; \
	done; exit $$code
teardown-gate: ## Refuse unless everything on the cluster can be brought back
	$(LHRUN) runbooks/teardown-gate.rhai
restore-cluster: ## Restore every volume into a fresh cluster, with the help of the exported state if it is here
	$(LHRUN) runbooks/full-restore.rhai $(if $(wildcard cluster-state),--set state=cluster-state)
verify-cluster: ## Show that what was backed up is there
	$(LHRUN) runbooks/verify-restore.rhai
