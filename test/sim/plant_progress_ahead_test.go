//go:build plant_progress_ahead || plant_all

package sim

import "holdfast/watch"

// The mistake progress-ahead tells the newest revision as progress, whatever the stream still holds back.
func init() { plants["progress-ahead"] = slips{idle: hasten} }

func hasten(wt *watcher) {
	if wt.next > 0 {
		wt.take(&watch.Response{Revision: wt.life.hub.Head()})
	}
}
