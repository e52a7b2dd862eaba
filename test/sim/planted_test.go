package sim

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/kv"
	"holdfast/raftlog"
)

// slips are the places at which a mistake can be made on purpose, to see that the judge finds it. All lie in what stands
// between the product's parts; the product carries none. The zero value makes no mistake.
type slips struct {
	keepsUsers bool                                 // users stay as they were when a received state comes into force
	unsynced   bool                                 // the log is not synced
	unasked    func(*life) bool                     // whether a read does not ask the cluster
	publish    func(*life, []kv.Change) []kv.Change // what watchers get of what a run changed
	proposed   func(context.Context, *life, []byte) // after a client's command was proposed
	recovered  func(*life, *raftlog.Recovered)      // after a log was read
	idle       func(*watcher)                       // now and then, on a stream of watchers
}

// plants are the mistakes this build can make, by name. Each lies behind a build tag, in a file named after it: -tags plant_stale_read
// compiles stale-read in, plant_all every one, and without a tag there is none.
var plants = map[string]slips{}

// plantSeeds is how many seeds a mistake may pass unnoticed.
const plantSeeds = 200

// TestPlanted checks the judge: each mistake made on purpose is found, within few seeds.
func TestPlanted(t *testing.T) {
	if len(plants) == 0 {
		t.Skip("waits for a build with mistakes in it, -tags plant_all")
	}
	for _, name := range sortedKeys(plants) {
		t.Run(name, func(t *testing.T) {
			for seed := uint64(1); seed <= plantSeeds; seed++ {
				if o := simulate(t, seed, plants[name]); o.wrong != "" {
					t.Logf("seed %d: %.300s", seed, o.wrong)
					return
				}
			}
			t.Errorf("not found within %d seeds", plantSeeds)
		})
	}
}

// TestPlantTags checks that every mistake lies behind its own tag, so that no ordinary build has it and the long form, which goes by the
// names of the files, tries each.
func TestPlantTags(t *testing.T) {
	files, err := filepath.Glob("plant_*_test.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no mistakes: %v", err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		tag := strings.TrimSuffix(name, "_test.go")
		if want := "//go:build " + tag + " || plant_all\n"; !strings.HasPrefix(string(text), want) {
			t.Errorf("%s does not begin with %q", name, want)
		}
		planted := strings.ReplaceAll(strings.TrimPrefix(tag, "plant_"), "_", "-")
		if !strings.Contains(string(text), `func init() { plants["`+planted+`"] = `) {
			t.Errorf("%s does not make the mistake %q", name, planted)
		}
	}
}
