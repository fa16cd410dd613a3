package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a program that runs until it is stopped, in a process group of its
// own.
type process struct {
	name, log string
	cmd       *exec.Cmd
	done      chan struct{}
}

// starter starts all processes from one operating-system thread that never ends, because
// the kernel kills a child with Pdeathsig when the thread that started it ends. So no
// server outlives a run that is itself killed.
var starter = sync.OnceValue(func() chan<- func() {
	jobs := make(chan func())
	go func() {
		runtime.LockOSThread()
		for job := range jobs {
			job()
		}
	}()
	return jobs
})

// launch starts a program whose output goes to a log in dir.
func launch(dir, name string, argv ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := p.begin(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) begin() error {
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	started := make(chan error)
	starter() <- func() { started <- p.cmd.Start() }
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	go func() {
		p.cmd.Wait()
		close(p.done)
	}()
	return nil
}

// stop ends the process and its group.
func (p *process) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
	}
	syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
}

// awaitPort waits until the process listens.
func (p *process) awaitPort(port int) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		select {
		case <-p.done:
			text, _ := os.ReadFile(p.log)
			return fmt.Errorf("%s has ended:\n%s", p.name, text)
		default:
		}
		conn, err := net.Dial("tcp", loopback(strconv.Itoa(port)))
		if err == nil {
			conn.Close()
			return nil
		}
	}
	return fmt.Errorf("%s does not listen on port %d; its log is %s", p.name, port, p.log)
}

// family returns the process and its descendants.
func (p *process) family() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	children := make(map[int][]int)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		fields, err := stat(pid)
		if err != nil {
			continue // the process has ended meanwhile
		}
		parent, _ := strconv.Atoi(fields[1])
		children[parent] = append(children[parent], pid)
	}
	all := []int{p.cmd.Process.Pid}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all, nil
}

// stat returns the fields of /proc/PID/stat from the state on (proc(5), field 3).
func stat(pid int) ([]string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	// The name before it may contain blanks and parentheses.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 15 {
		return nil, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	return fields, nil
}

// tick is the unit of times in /proc on every Linux that Go runs on (USER_HZ).
const tick = 10 * time.Millisecond

// cpu returns the processor time that the family has used, including ended children
// (utime, stime, cutime, cstime).
func (p *process) cpu() (time.Duration, error) {
	family, err := p.family()
	if err != nil {
		return 0, err
	}
	var ticks int64
	for _, pid := range family {
		fields, err := stat(pid)
		if err != nil {
			continue // its time is now in its parent's
		}
		for _, field := range fields[11:15] {
			n, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
			}
			ticks += n
		}
	}
	return time.Duration(ticks) * tick, nil
}

// pss returns the memory of the family in KiB that is not backed by files; memory shared
// by several processes is divided among them. Pages of programs and libraries are left
// out: their share changes whenever any other process runs the same program.
func (p *process) pss() (kib int64, err error) {
	family, err := p.family()
	if err != nil {
		return 0, err
	}
	for _, pid := range family {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // the process has ended since
		}
		if err != nil {
			return 0, fmt.Errorf("the memory of %s (are you root?): %w", p.name, err)
		}
		for line := range strings.Lines(string(text)) {
			key, rest, _ := strings.Cut(line, ":")
			if key != "Pss_Anon" && key != "Pss_Shmem" {
				continue
			}
			n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				return 0, fmt.Errorf("/proc/%d/smaps_rollup: %w", pid, err)
			}
			kib += n
		}
	}
	return kib, nil
}

// ports are below the range of the kernel's ephemeral ports.
var nextPort = 20000 + os.Getpid()%8000

// freePort returns a port on which no process listens.
func freePort() int {
	for {
		nextPort++
		if nextPort > 30000 {
			nextPort = 20000
		}
		l, err := net.Listen("tcp", loopback(strconv.Itoa(nextPort)))
		if err == nil {
			l.Close()
			return nextPort
		}
	}
}
