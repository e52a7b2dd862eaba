// Command mixin prints the alert rules and the dashboard that etcd's project offers, as JSON. They lie in etcd's root module, which has
// nothing to import: the module is required for its files alone, so `go mod tidy` must not be run here.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/google/go-jsonnet"
)

func main() {
	if err := render(); err != nil {
		fmt.Fprintln(os.Stderr, "mixin:", err)
		os.Exit(1)
	}
}

// grafana7x chooses the dashboard that needs no library of Grafana's.
const snippet = `local m = (import 'mixin.libsonnet') + {_config+:: {grafana7x: true}}; {alerts: m.prometheusAlerts, dashboards: m.grafanaDashboards}`

func render() error {
	module, err := exec.Command("go", "mod", "download", "-json", "go.etcd.io/etcd/v3").Output()
	if err != nil {
		return fmt.Errorf("download etcd's root module: %w", err)
	}
	_, rest, _ := strings.Cut(string(module), `"Dir": "`)
	dir, _, found := strings.Cut(rest, `"`)
	if !found {
		return fmt.Errorf("download etcd's root module: it says no place: %s", module)
	}
	vm := jsonnet.MakeVM()
	vm.Importer(&jsonnet.FileImporter{JPaths: []string{filepath.Join(dir, "contrib", "mixin")}})
	text, err := vm.EvaluateAnonymousSnippet("both.jsonnet", snippet)
	if err != nil {
		return err
	}
	fmt.Print(text)
	return nil
}
