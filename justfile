# Each recipe is one plain command; none of them needs just.

# Start a target on this machine, for any iSCSI initiator
demo *ARGS:
    cargo run --release -- demo {{ARGS}}

# Run the tests that need nothing but Rust; those that need more say what they skipped
test:
    cargo test --workspace

# Run every test with real clients, as CI does (Debian 12; installs packages)
check:
    tests/run

# As CI: a clean clone, then the tests
ci:
    .ci/run

# Format the code
fmt:
    cargo fmt --all

# Lints, as errors
lint:
    cargo clippy --workspace --all-targets -- -D warnings

# Run simulated clusters under faults; `just sim mutants` looks for each planted bug
sim *ARGS="run --seeds 10000":
    cargo run --release -p huntaway-sim -- {{ARGS}}

# Kill -9 under load, as often as is told
crash ROUNDS="50":
    HUNTAWAY_CRASH_ROUNDS={{ROUNDS}} cargo test --release --test crash

# Kill and pause nodes of a cluster under load, for so long
faults SECONDS="1800":
    HUNTAWAY_FAULTS_SECONDS={{SECONDS}} cargo test --test faults -- --nocapture

# Fuzz one target of tests/fuzz/src for so many seconds (needs cargo-fuzz, no nightly compiler)
fuzz TARGET SECONDS="300":
    tests/fuzz/run {{TARGET}} {{SECONDS}}

# Run libiscsi's conformance suite and rewrite the expected results
conformance:
    tests/conformance/update

# Compare speed and CPU cost with tgt, in turn, on tmpfs
bench *ARGS:
    benches/load/compare {{ARGS}}

# Build the Debian package
package *ARGS:
    config/debian/build {{ARGS}}
