package guard

import "testing"

func TestAWaiterThatCannotStepAsideMayBeTheLastToLeave(t *testing.T) {
	var all waitQueues
	var aside []*waiter
	for range maxWaiting {
		w, ok := all.enter("lan@example.vn")
		if !ok || !all.stepAside(w) {
			t.Fatal("a waiter could not step aside although there is room")
		}
		aside = append(aside, w)
	}
	w, _ := all.enter("lan@example.vn")
	if all.stepAside(w) {
		t.Fatal("a waiter stepped aside into a full queue")
	}
	for _, other := range aside {
		all.leave(other)
	}
	all.leave(w)
	if n := all.waiting(); n != 0 {
		t.Errorf("%d still wait", n)
	}
}
