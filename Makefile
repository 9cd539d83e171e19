# Everything a contributor runs. `make` alone lists the targets.

.DEFAULT_GOAL := help
.PHONY: help demo build test test-quick lint supply fuzz proof bench docs snapshot release wheels tools clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

demo: ## Show the tool at work on a made-up cache and bucket; needs only Go
	go run ./cmd/hf-cache-sync demo

build: ## Build the static binary bin/hf-cache-sync
	CGO_ENABLED=0 go build -trimpath -buildvcs=auto -o bin/ ./cmd/hf-cache-sync

test: tools build ## Run every test, on real stores and beside real clients
	@scripts/test.sh

test-quick: ## Run the tests that need nothing but Go
	go test ./...

lint: ## Lint and vet all modules, check go.mod and go.sum
	@scripts/tools.sh
	@scripts/lint.sh

supply: ## Check modules, licences, vulnerabilities, and that builds are reproducible
	@scripts/tools.sh
	@scripts/supply.sh

fuzz: ## Run each fuzz target for FUZZTIME (30s)
	@scripts/fuzz.sh

proof: tools build ## Try to break it, at length, and write docs/reliability.md
	@scripts/proof.sh

bench: tools build ## Measure against other tools on one server
	./bench/run.sh

docs: build ## Make the pictures of the documentation again
	@scripts/docs.sh

snapshot: ## Make what a release has, and its wheels, into dist/; publish nothing
	@scripts/tools.sh tools/goreleaser
	@scripts/release.sh snapshot
	@scripts/release.sh wheels

release: ## Publish the tag that is checked out; needs GITHUB_TOKEN
	@scripts/tools.sh tools/goreleaser
	@scripts/release.sh publish

wheels: ## Make Python packages of the archives in dist/
	@scripts/release.sh wheels

tools: ## Fill .cache with the pinned tools and clients that the tests use
	@scripts/tools.sh
	@scripts/clients.sh

clean: ## Remove all that was built or installed
	rm -rf bin dist .cache
