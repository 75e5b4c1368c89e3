package node

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/shirou/gopsutil/v4/cpu"
)

func TestParsersOfReadings(t *testing.T) {
	now := time.UnixMicro(1_800_000_000_000_000)
	for _, c := range []struct {
		name string
		got  any
		want any
	}{
		{"ioreg", parseIoreg([]byte("  |   \"HIDIdleTime\" = 2500000000\n")), 2500 * time.Millisecond},
		{"ioreg without it", parseIoreg([]byte("nothing")), nobody},
		{"pmset on battery", parsePmset([]byte("Now drawing from 'Battery Power'\n -InternalBattery-0 95%")), Battery},
		{"pmset on mains", parsePmset([]byte("Now drawing from 'AC Power'\n")), Mains},
		{"pmset of another kind", parsePmset([]byte("?")), PowerUnknown},
		{"somebody works", parseSession([]byte("Class=user\nState=active\nRemote=no\nIdleHint=no\n"), now), time.Duration(0)},
		{"somebody has gone", parseSession([]byte("Class=user\nState=active\nRemote=no\nIdleHint=yes\nIdleSinceHint=1799999940000000\n"), now), time.Minute},
		{"somebody elsewhere", parseSession([]byte("Class=user\nState=active\nRemote=yes\nIdleHint=no\n"), now), nobody},
		{"the greeter", parseSession([]byte("Class=greeter\nState=active\nIdleHint=no\n"), now), nobody},
		{"switched away", parseSession([]byte("Class=user\nState=online\nRemote=no\nIdleHint=no\n"), now), nobody},
		{"sooner", sooner(time.Minute, time.Second), time.Second},
		{"sooner than nobody", sooner(nobody, time.Second), time.Second},
		{"nobody sooner", sooner(time.Second, nobody), time.Second},
		{"highest", highest([]string{"3", " 40 ", ""}), 0.4},
		{"none", highest(nil), float64(Unknown)},
		{"pmon", parsePmon(pmonText, map[int32]bool{100: true}), 0.35},
		{"pmon of nobody", parsePmon("# gpu pid type sm\n    0    -    -    -\n", nil), 0.0},
		{"no pmon", parsePmon("not supported", nil), float64(Unknown)},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", c.name, c.got, c.want)
		}
	}
}

const pmonText = `# gpu         pid   type     sm    mem    enc    dec    jpg    ofa    command
# Idx           #    C/G      %      %      %      %      %      %    name
    0         100     C     95     40      -      -      -      -    ollama
    0         200     G     20      1      -      -      -      -    game
    0         300     G     15      1      -      -      -      -    compositor
    1         400     G      5      1      -      -      -      -    other
`

func TestOthersShare(t *testing.T) {
	before := &cpu.TimesStat{User: 100, Idle: 100}
	after := &cpu.TimesStat{User: 106, System: 2, Idle: 102}
	for engines, want := range map[float64]float64{0: 0.8, 6: 0.2, 100: 0} {
		if got := othersShare(after, before, engines); got < want-1e-9 || got > want+1e-9 {
			t.Errorf("with %v seconds of engines: %v, want %v", engines, got, want)
		}
	}
	if othersShare(before, before, 0) != Unknown {
		t.Error("no time has passed, and there is a share")
	}
}

func TestEnginePrograms(t *testing.T) {
	for name, want := range map[string]bool{
		"ollama": true, "Ollama.exe": true, "llama-server": true, "LM Studio Helper": true, "vllm": true, "bash": false, "ollamaish": false, "lmsensors": false,
	} {
		if isEngineProgram(name) != want {
			t.Errorf("%s: %t", name, !want)
		}
	}
}

// The real processors: a child that computes is somebody else's work, and the engine's when it is one.
func TestTheEnginesShareIsLeftOut(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the test needs sh and yes")
	}
	child := exec.CommandContext(t.Context(), "sh", "-c", "while :; do :; done")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = child.Process.Kill(); _ = child.Wait() })
	pid := int32(child.Process.Pid)
	p := processors{spent: map[int32]float64{}, engines: map[int32]bool{pid: true}, listed: time.Now().Add(time.Hour)}
	p.spend(t.Context())
	spent := 0.0
	wait(t, "the child's time counts as the engine's", func() bool {
		spent += p.spend(t.Context())
		return spent > 0.05
	})
}

func TestGraphics(t *testing.T) {
	root := t.TempDir()
	device := filepath.Join(root, "sys/class/drm/card0/device")
	if err := errors.Join(os.MkdirAll(device, 0o700), os.WriteFile(filepath.Join(device, "gpu_busy_percent"), []byte("37\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	absent := graphics{root: root, run: func(context.Context, string, ...string) ([]byte, error) { return nil, exec.ErrNotFound }}
	for _, c := range []struct {
		running int
		want    float64
	}{{0, 0.37}, {1, Unknown}, {0, Unknown}, {0, 0.37}} { // the reading after work may still have some of it
		if got := absent.read(t.Context(), c.running, nil); got != c.want {
			t.Errorf("AMD with %d running: %v, want %v", c.running, got, c.want)
		}
	}
	nvidia := graphics{run: func(_ context.Context, name string, args ...string) ([]byte, error) {
		if name == "nvidia-smi" && args[0] == "pmon" {
			return []byte(pmonText), nil
		}
		return []byte("12\n63\n"), nil
	}}
	if got := nvidia.read(t.Context(), 0, nil); got != 0.63 {
		t.Errorf("NVIDIA: %v", got)
	}
	if got := nvidia.read(t.Context(), 1, map[int32]bool{100: true}); got != 0.35 {
		t.Errorf("NVIDIA beside an engine: %v", got)
	}
}

func TestPowerOfLinux(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("sysfs is Linux's")
	}
	for name, c := range map[string]struct {
		files map[string]string
		want  Power
	}{
		"a desktop":        {nil, PowerUnknown},
		"a laptop away":    {map[string]string{"BAT0/type": "Battery", "BAT0/status": "Discharging", "AC/type": "Mains", "AC/online": "0"}, Battery},
		"a laptop at home": {map[string]string{"BAT0/type": "Battery", "BAT0/status": "Charging", "AC/type": "Mains", "AC/online": "1"}, Mains},
		"a wireless mouse": {map[string]string{"m/type": "Battery", "m/status": "Discharging", "m/scope": "Device"}, PowerUnknown},
		"a full battery":   {map[string]string{"BAT0/type": "Battery", "BAT0/status": "Full"}, Mains},
	} {
		root := t.TempDir()
		for file, text := range c.files {
			path := filepath.Join(root, "sys/class/power_supply", file)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text+"\n"), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		if got := (&machineSensors{root: root}).power(t.Context()); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestAwayOfLinux(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("logind is Linux's")
	}
	t.Setenv("DISPLAY", "")
	answers := map[string]string{
		"list-sessions": " 2 1000 ada seat0 tty2\n c1 120 gdm seat0 tty1\n",
		"2":             "Class=user\nState=active\nRemote=no\nIdleHint=no\n",
		"c1":            "Class=greeter\nState=online\nRemote=no\nIdleHint=yes\n",
	}
	m := &machineSensors{run: func(_ context.Context, name string, args ...string) ([]byte, error) {
		if name != "loginctl" {
			return nil, exec.ErrNotFound
		}
		if args[0] == "show-session" {
			return []byte(answers[args[1]]), nil
		}
		return []byte(answers[args[0]]), nil
	}}
	if got := m.away(t.Context()); got != 0 {
		t.Errorf("away for %v, although somebody is active", got)
	}
	answers["list-sessions"] = ""
	if got := m.away(t.Context()); got != nobody {
		t.Errorf("away for %v, although nobody is there", got)
	}
}

// Every sensor of this machine can be asked, whatever it has.
func TestRealSensors(t *testing.T) {
	m := newMachineSensors()
	m.Read(t.Context(), Work{})
	r := m.Read(t.Context(), Work{Ports: []uint16{1}})
	if r.CPU > 1 || r.GPU > 1 {
		t.Errorf("%+v", r)
	}
}

// wait waits until a condition holds.
func wait(t testing.TB, what string, holds func() bool) {
	t.Helper()
	limit := time.NewTimer(20 * time.Second)
	defer limit.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("it did not come to pass: %s", what)
		}
	}
}
