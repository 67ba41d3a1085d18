// `iptnative serve` in a process of its own on a free port of the loopback, with prompts in a temporary folder.
using System.Diagnostics;
using System.Globalization;
using IptNative.Kernels;
using IptNative.Model.Checkpoints;

namespace IptNative.Bench;

internal sealed class ServerProcess : IDisposable
{
    private const int PromptRows = 20;

    private readonly Process _process;

    public ServerProcess(BenchOptions options, int prompts, params string[] flags)
    {
        Model = options.Model.Length > 0 ? options.Model : Path.Combine(Ledger.Root, "models", "t5-gym-tiny");
        Prompts = Directory.CreateTempSubdirectory("iptnative-bench-serve-").FullName;
        using (Checkpoint checkpoint = Checkpoint.Open(Model))
            DModel = checkpoint.Config.DModel;
        Names = [.. Enumerable.Range(0, prompts).Select(i => $"p{i}")];
        for (int i = 0; i < prompts; i++)
            NumpyFile.Write(Path.Combine(Prompts, $"{Names[i]}.npy"), new TensorShape(PromptRows, DModel), PromptValues(i));
        string program = Path.Combine(Ledger.Root, "artifacts", "bin", "Cli", "release", "iptnative.dll");
        if (!File.Exists(program))
            throw new ArgumentException($"{program}: starting the server; there is no such file. Build it: dotnet build src/Cli -c Release.");
        var start = new ProcessStartInfo("dotnet", [program, "serve", "--model", Model, "--prompts", Prompts, "--port", "0", "--threads", options.Threads.ToString(CultureInfo.InvariantCulture), .. flags]) { RedirectStandardOutput = true };
        _process = Process.Start(start) ?? throw new InvalidOperationException("dotnet: found no process, expected it to start the server.");
        string? line;
        while ((line = _process.StandardOutput.ReadLine()) is not null)
        {
            if (line.StartsWith("listening on ", StringComparison.Ordinal))
            {
                Port = new Uri(line["listening on ".Length..]).Port;
                return;
            }
        }
        throw new InvalidOperationException($"the server ended with {_process.ExitCode} before it listened; its message stands above.");
    }

    public string Model { get; }

    public string Prompts { get; }

    public int DModel { get; }

    public string[] Names { get; }

    public int Port { get; }

    /// <summary>CPU time of the server so far.</summary>
    public double CpuSeconds
    {
        get
        {
            _process.Refresh();
            return _process.TotalProcessorTime.TotalSeconds;
        }
    }

    public double ResidentMiB => Status("VmRSS:") / 1024;

    public int Threads => (int)Status("Threads:");

    /// <summary>Files and sockets that it holds open.</summary>
    public int OpenFiles => Directory.EnumerateFileSystemEntries($"/proc/{_process.Id}/fd").Count();

    private double Status(string name)
    {
        string line = File.ReadLines($"/proc/{_process.Id}/status").First(l => l.StartsWith(name, StringComparison.Ordinal));
        return double.Parse(line[name.Length..].Replace("kB", "", StringComparison.Ordinal), CultureInfo.InvariantCulture);
    }

    /// <summary>A prompt's numbers by its seed: what bench prompts say is no matter, as long as they differ.</summary>
    public float[] PromptValues(int seed)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, PromptRows * DModel).Select(_ => (float)(random.NextDouble() - 0.5))];
    }

    public void Dispose()
    {
        _process.Kill();
        _process.WaitForExit();
        _process.Dispose();
        Directory.Delete(Prompts, recursive: true);
    }
}
