# Holdfast: what a developer types. Needs Go and make; the rest is built or fetched here, into .cache and bin.

.PHONY: run build install manual check test fmt lint peer mixed crash sim cluster ops hosts kube clients ctl utl metrics security fuzz bench microbench profile report tidy clean

# Start a member on 127.0.0.1:2379 with its data in ./default.etcd.
run: build
	bin/holdfast

build:
	CGO_ENABLED=0 go build -o bin/holdfast ./cmd/holdfast

# Into PREFIX below DESTDIR: the binary, and the names by which it is etcd's tools. A file that is no link is left alone.
PREFIX = /usr/local
install: build
	install -D -m 0755 bin/holdfast $(DESTDIR)$(PREFIX)/bin/holdfast
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/man/man1 docs/man/*.1
	for name in etcdctl etcdutl; do \
		link=$(DESTDIR)$(PREFIX)/bin/$$name; \
		if test -e $$link && ! test -L $$link; then echo "$$link is there and no link of ours" >&2; exit 1; fi; \
		ln -sfn holdfast $$link; \
	done

# The pages about the tools' commands, from the commands: docs/commands.md and docs/man.
manual:
	go test -count=1 ./ctl/manual -run TestPagesAreFresh -rewrite

# What a commit runs: under two minutes.
check:
	go run ./test/legs check

# Everything: check, the race detector, fuzz seeds, and a short run of every long test. Each part prints its budget.
test:
	go run ./test/legs test

fmt:
	gofmt -w $$(git ls-files '*.go')

# The long forms. Each prints the seed or the command that repeats a failure.

# Compare with a real etcd: SEED=, OPS= choose what is sent.
peer: build
	go run ./test/legs peer

# Clusters of etcd and Holdfast together: SEED= repeats an episode, TIME= is for each cluster.
mixed: build
	go run ./test/legs mixed

# Kill and crash: the binary at every failpoint, and the parts in process on a disk that forgets.
crash: build
	go run ./test/legs crash

# Whole clusters in one goroutine, broken as a seed says: SEED= is the first, ROUNDS= how many.
sim:
	go run ./test/legs sim

# Whole clusters of real processes, broken as a seed says: SEED= is the first, ROUNDS= how many. Needs root.
cluster:
	go run ./test/legs cluster

# What operators do: fill a quota, defragment under load, two members on one machine.
ops:
	go run ./test/legs ops

# Machines that boot systemd, in namespaces. Needs root and systemd 252.
hosts:
	go run ./test/legs hosts

# A real Kubernetes API server on Holdfast and on etcd.
kube: build
	go run ./test/legs kube

# Real clients: clientv3 3.5 to 3.7, a client from npm, etcdctl, etcdutl.
clients: build
	go run ./test/legs clients

# The command line beside etcd's, call by call.
ctl: build
	go run ./test/legs ctl

# The tool for files beside etcd's, and data on its way from etcd and back.
utl: build
	go run ./test/legs utl

# Who may do what, decided over every request; floods of connections, and files of TLS that change under load.
security: build
	go run ./test/legs security

# What is shown to Prometheus beside etcd's, and the queries of etcd's alerts and dashboard under minutes of load.
metrics: build
	go run ./test/legs metrics

# Each fuzz target for FUZZTIME (30s).
fuzz:
	go run ./test/legs fuzz

# Beside etcd, some 75 minutes, recorded in bench/results: ROWS= is a regular expression over the rows, ROUNDS= how often each,
# MINUTES= how long at most, what matters most first.
bench: build
	go run ./test/legs bench

# The benchmarks beside the hot paths, compared with bench/micro.txt: COUNT= how often, RECORD=true replaces it.
microbench:
	go run ./test/legs microbench

# What the member does with its CPU, recorded for the compiler: cmd/holdfast/default.pgo, by which the binary is built from then on. ROUNDS= is how often.
profile: build
	go run ./test/legs profile

# Tables and plots of all that is recorded.
report: build
	bin/holdfast bench --results=bench/results --report=bench/results/report

clean:
	rm -rf bin .cache default.etcd
