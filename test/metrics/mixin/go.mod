module holdfast/test/metrics/mixin

go 1.26.0

require (
	github.com/google/go-jsonnet v0.22.0
	go.etcd.io/etcd/v3 v3.7.0
)

require (
	go.yaml.in/yaml/v2 v2.4.3 // indirect
	golang.org/x/crypto v0.52.0 // indirect
	golang.org/x/sys v0.45.0 // indirect
	sigs.k8s.io/yaml v1.6.0 // indirect
)
