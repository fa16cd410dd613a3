# make build       the program, ./congthu, for any Linux of this architecture
# make test        everything that must pass, the tests with real servers included
# make unit        the same without the real mail servers: needs Go, a C compiler, PostgreSQL
#                  and promtool (Debian package prometheus)
# make dashtest    the dashboards: their expressions, and Grafana's schema (needs npm)
# make realtest    only the tests with real servers (Debian packages: see .ci/run)
# make dates       the tests at other dates than today's: 29 February, the ends of months
#                  and years, midnight in Asia/Ho_Chi_Minh (real servers where the
#                  date matters; needs what make test needs, and the Debian package
#                  faketime). DATES='-at 2031-03-31T23:59:58+07:00 ./auth' chooses
# make soak        the tests with replicas, a database that comes and goes and random
#                  timing, for SOAK in all, those that measure time, and many rounds
#                  of random histories and killed processes over each store
#                  (CONGTHU_SOAK=10m in the environment of go test does the same;
#                  without it they take a few turns only)
# make fuzz-smoke  every fuzz target for FUZZTIME each
# make bench       congthu beside the proxies that people put before a mail server,
#                  as real processes: HAProxy, nginx, Dovecot (Debian packages; as
#                  root, some eight minutes). BENCH='-rows 23 -rounds 9' chooses;
#                  BENCH=-help lists what there is to choose; BENCH='-beside
#                  ../before/congthu' measures another congthu in the same rounds
# make microbench  every benchmark of the Go packages, once
# make dashboards  deploy/grafana, generated from metrics/grafana
# make release     dist/: .tar.gz and .deb for amd64 and arm64, and SHA256SUMS.
#                  VERSION=v1.2.3 where the commit has no tag of that name,
#                  MAINTAINER='Name <address>' of whoever hands them out
# make reproducible  makes all of it twice, from two copies and with nothing in
#                  the compiler's cache, and compares (ten minutes)
# make trydeb      installs, runs, upgrades and purges the .deb in a clean Debian
#                  (as root, debootstrap, network; a minute)
# make lint        formatting, go vet, and staticcheck in the version that
#                  deploy/tools/lint/go.mod names

# A test that lacks something of the machine fails here and says how to install
# it; "go test ./..." skips it with the same words.
export CONGTHU_TEST_ALL = 1

GO ?= go
FUZZTIME ?= 10s
SOAK ?= 30m

# The race detector watches everything: of a generic function that several packages
# have the linker takes one, so a package that is left out takes sync.Map with it.
RACE = -race

# The real servers are tried without the race detector: what it would watch is
# another process. CONGTHU_RACE=1 builds that process with it.
REAL = ./gateway/realtest

.PHONY: build test unit dashtest realtest dates soak fuzz-smoke bench microbench dashboards release reproducible trydeb lint

build:
	CGO_ENABLED=0 $(GO) build -trimpath -o congthu .

test: lint unit dashtest realtest

unit:
	$(GO) test $(RACE) -timeout 15m $$($(GO) list ./... | grep -v '/gateway/realtest$$')

# Modules of their own: the program must depend on neither.
dashtest:
	cd deploy/tools/dashboards && $(GO) vet ./... && $(GO) tool -modfile=../lint/go.mod staticcheck ./... && $(GO) test -count=1 ./...
	@command -v npm >/dev/null || { echo "npm is missing; install it with: apt-get install -y --no-install-recommends nodejs npm"; exit 1; }
	cd deploy/tools/grafana-schema && npm ci --silent --ignore-scripts --no-audit --no-fund && npm test --silent

realtest:
	$(GO) test -count=1 -timeout 15m $(REAL)

dates:
	$(GO) run ./deploy/tools/dates $(DATES)

soak:
	CONGTHU_SOAK=$(SOAK) $(GO) test -count=1 -p 1 -v -run '^(TestUnknownNamesTakeAsLongAsAccounts|TestALoginCostsTheSame)' ./auth/sqlite ./auth/postgres
	CONGTHU_SOAK=$(SOAK) $(GO) test -count=1 -v -run '^TestAMillionAccounts' $(REAL)
	CONGTHU_SOAK=$(SOAK) $(GO) test -count=1 -timeout 0 -v -run '^TestRandomSpellings' $(REAL)
	CONGTHU_SOAK=$(SOAK) $(GO) test -count=1 -timeout 0 -v -run '^(TestRandomDialogues|TestNoServerRecords)' $(REAL)
	CONGTHU_SOAK=$(SOAK) $(GO) test -count=1 -timeout 0 -v -run '^(TestReplicasTogether|TestAnOutageOfTheDatabase|TestMemoryComesBack)' $(REAL)
	CONGTHU_SOAK=$(SOAK) $(GO) test -count=1 -timeout 0 -skip '^(TestUnknownNamesTakeAsLongAsAccounts|TestALoginCostsTheSame)' ./auth/...

fuzz-smoke:
	@set -eu; for package in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			echo "$$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$package; \
		done; \
	done

bench: build
	@$(GO) build -o congthu-bench ./deploy/bench
	@./congthu-bench $(BENCH); code=$$?; rm -f congthu-bench; exit $$code

microbench:
	$(GO) test -run '^$$' -bench . -benchtime 1x -benchmem ./...

dashboards:
	$(GO) generate ./metrics/grafana

release:
	rm -rf dist
	$(GO) run ./deploy/packaging -out dist $(if $(VERSION),-version $(VERSION)) $(if $(MAINTAINER),-maintainer '$(MAINTAINER)')

reproducible:
	deploy/packaging/reproducible $(if $(VERSION),-version $(VERSION))

trydeb:
	deploy/packaging/trydeb

lint:
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "not formatted: $$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool -modfile=deploy/tools/lint/go.mod staticcheck ./...
