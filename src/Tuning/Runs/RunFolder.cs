// A run's folder: run.json, log.jsonl, tensorboard/, checkpoint/, best/, predictions.tsv, result.json. One process writes it at a time.
// Deliberately not: when something is written (the trainer decides), and what a checkpoint's tensors mean.
using System.Diagnostics.CodeAnalysis;
using IptNative.Kernels;
using IptNative.Model.Checkpoints;
using IptNative.Tuning.Prompts;

namespace IptNative.Tuning.Runs;

/// <summary>Where the frozen model of a run comes from, for the adapters that PEFT reads.</summary>
/// <param name="BaseModel">Hub name or path; null where unknown.</param>
/// <param name="NumLayers">The model's num_layers.</param>
/// <param name="NumHeads">The model's num_heads.</param>
public sealed record FrozenModelCard(string? BaseModel, int? NumLayers, int? NumHeads);

/// <summary>An opened run folder, locked until it is disposed.</summary>
public sealed class RunFolder : IDisposable
{
    private const string LogName = "log.jsonl";
    private const string BoardsName = "tensorboard";
    private const string CheckpointName = "checkpoint";
    private const string BestName = "best";
    private const string PromptName = "prompt.npy";
    private const string InitialName = "initial";

    private readonly RunLock _lock;
    private readonly bool _begun;
    private readonly RunManifest _manifest;
    private readonly IReadOnlyList<RunRow> _rows;
    private readonly Func<Stream, Stream> _disk;
    private long? _savedStep;

    [SuppressMessage("Performance", "CA1859", Justification = "The rows are a list of the configuration's.")]
    private RunFolder(RunLock held, bool begun, RunManifest manifest, RunConfig config, IReadOnlyList<string> notes, Func<Stream, Stream> disk, TimeProvider clock)
    {
        (_lock, _begun, _manifest, Config, Notes, _disk) = (held, begun, manifest, config, notes, disk);
        Path = config.Output;
        _rows = config.Rows();
        AtomicFile.RemoveLeftovers(Path);
        AtomicFile.RemoveLeftovers(At(CheckpointName));
        string checkpoint = At(CheckpointName, TrainingState.FileName);
        if (File.Exists(checkpoint))
        {
            State = TrainingState.Read(checkpoint, manifest.Identity, _rows);
            _savedStep = State.Step;
        }
        Recorder = OpenRecorder(clock);
    }

    /// <summary>The folder.</summary>
    public string Path { get; }

    /// <summary>The options of this start.</summary>
    public RunConfig Config { get; }

    /// <summary>What to go on from; null where the run starts at its first step.</summary>
    public TrainingState? State { get; }

    /// <summary>What the user should know about going on: options that change the last bits.</summary>
    public IReadOnlyList<string> Notes { get; }

    /// <summary>Writes log.jsonl and TensorBoard's files from what the trainer says.</summary>
    public RunRecorder Recorder { get; }

    /// <summary>Makes a run folder, or opens one to go on.</summary>
    /// <param name="config">The options; <see cref="RunConfig.Output"/> is the folder.</param>
    /// <param name="inputs">Hashes of what the run reads.</param>
    /// <param name="resume">Go on with the run in the folder; where the folder is missing or empty, the run starts.</param>
    /// <returns>The folder; dispose it.</returns>
    /// <exception cref="IOException">Another process has it, it holds something already, or it cannot be written.</exception>
    /// <exception cref="InvalidDataException">It holds another run, or is damaged.</exception>
    public static RunFolder Open(RunConfig config, RunInputs inputs, bool resume) => Open(config, inputs, resume, stream => stream, TimeProvider.System);

    // A test may put a full disk between the checkpoint and its file, and its own clock.
    internal static RunFolder Open(RunConfig config, RunInputs inputs, bool resume, Func<Stream, Stream> disk, TimeProvider clock)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(inputs);
        config.Validate();
        string folder = config.Output;
        if (folder.Length == 0)
            throw new ArgumentException("output is missing, expected the folder of the run.", nameof(config));
        if (File.Exists(folder))
            throw new IOException($"{folder}: making a run folder; there is a file of this name. Give another 'output'.");
        RequireOurs(folder, resume);
        Directory.CreateDirectory(folder);
        var held = RunLock.Take(folder);
        try
        {
            // Once more: another process may have been here between the first look and the lock.
            bool begun = RequireOurs(folder, resume);
            RunManifest manifest;
            IReadOnlyList<string> notes = [];
            if (begun)
            {
                manifest = RunManifest.Load(folder);
                notes = manifest.RequireSame(folder, config, inputs);
            }
            else
            {
                manifest = RunManifest.Of(config, inputs, clock);
                manifest.Save(folder, config);
            }
            return new RunFolder(held, begun, manifest, config, notes, disk, clock);
        }
        catch
        {
            held.Dispose();
            throw;
        }
    }

    /// <summary>Saves a training between two steps: the whole new checkpoint or the old one, never a part. The log is on the disk before.</summary>
    /// <param name="state">What a process that goes on needs.</param>
    /// <exception cref="IOException">The disk is full or gone; the checkpoint before this one is untouched.</exception>
    public void Save(TrainingState state)
    {
        ArgumentNullException.ThrowIfNull(state);
        string path = At(CheckpointName, TrainingState.FileName);
        try
        {
            Directory.CreateDirectory(At(CheckpointName));
            Recorder.Flush();
            AtomicFile.Write(path, stream => state.WriteTo(_disk(stream), _manifest.Identity, Recorder.LogOffset, Recorder.BoardOffsets));
        }
        catch (IOException e)
        {
            long bytes = state.Tensors.Values.Sum(t => 4L * t.Values.Length);
            string old = _savedStep is { } step ? $"The checkpoint of step {step} is untouched" : "No checkpoint was there before";
            throw new IOException($"{path}: writing the checkpoint of step {state.Step} ({bytes / 1e6:0.0} MB); {e.Message.TrimEnd('.')}. {old}: make room, then go on with --resume.", e);
        }
        _savedStep = state.Step;
    }

    /// <summary>Keeps what a run starts from, to tell later how far it went.</summary>
    /// <param name="row">Index of the run.</param>
    /// <param name="prompt">Its prompt before the first step.</param>
    /// <exception cref="IOException">The folder cannot be written.</exception>
    public void SaveInitial(int row, Prompt prompt)
    {
        ArgumentNullException.ThrowIfNull(prompt);
        Directory.CreateDirectory(At(InitialName));
        NumpyFile.Write(At(InitialName, _rows[row].Name + ".npy"), new TensorShape(prompt.Length, prompt.DModel), prompt.Values);
    }

    /// <summary>What a run's best prompt started from, where it lies in a run folder that has it.</summary>
    /// <param name="prompt">The prompt's folder or file: best, or best/RUN.</param>
    /// <returns>The file; null where there is none.</returns>
    public static string? InitialOf(string prompt)
    {
        ArgumentException.ThrowIfNullOrEmpty(prompt);
        string own = System.IO.Path.TrimEndingDirectorySeparator(System.IO.Path.GetFullPath(prompt));
        if (System.IO.Path.GetFileName(own) == PromptName)
            own = System.IO.Path.GetDirectoryName(own)!; // a file has a folder
        string folder = System.IO.Path.GetDirectoryName(own) ?? own;
        // best of a run by itself, or best/RUN.
        if (System.IO.Path.GetFileName(own) == BestName)
        {
            string initial = System.IO.Path.Combine(folder, InitialName);
            string[] only = Directory.Exists(initial) ? Directory.GetFiles(initial, "*.npy") : [];
            return only.Length == 1 ? only[0] : null;
        }
        string path = System.IO.Path.Combine(System.IO.Path.GetDirectoryName(folder) ?? folder, InitialName, System.IO.Path.GetFileName(own) + ".npy");
        return System.IO.Path.GetFileName(folder) == BestName && File.Exists(path) ? path : null;
    }

    /// <summary>Keeps a run's best prompt: an adapter that PEFT loads, and the same numbers as prompt.npy.</summary>
    /// <param name="row">Index of the run.</param>
    /// <param name="prompt">Its prompt.</param>
    /// <param name="model">The frozen model.</param>
    /// <exception cref="IOException">The folder cannot be written.</exception>
    public void SaveBest(int row, Prompt prompt, FrozenModelCard model)
    {
        ArgumentNullException.ThrowIfNull(prompt);
        ArgumentNullException.ThrowIfNull(model);
        string folder = BestFolder(row);
        PeftPrompt.Write(folder, prompt, model.BaseModel, model.NumLayers, model.NumHeads);
        NumpyFile.Write(System.IO.Path.Combine(folder, PromptName), new TensorShape(prompt.Length, prompt.DModel), prompt.Values);
    }

    /// <summary>Where a run's best prompt is: best, or best/RUN where several are trained side by side.</summary>
    /// <param name="row">Index of the run.</param>
    /// <returns>The folder.</returns>
    public string BestFolder(int row) => _rows.Count == 1 ? At(BestName) : At(BestName, _rows[row].Name);

    /// <summary>Writes predictions.tsv.</summary>
    /// <param name="lines">Predictions; read once.</param>
    /// <exception cref="IOException">The file cannot be written.</exception>
    public void WritePredictions(IEnumerable<PredictionLine> lines) => RunResult.WritePredictions(At("predictions.tsv"), lines);

    /// <summary>Writes result.json.</summary>
    /// <param name="result">What the run came to.</param>
    /// <exception cref="IOException">The file cannot be written.</exception>
    public void WriteResult(RunResult result)
    {
        ArgumentNullException.ThrowIfNull(result);
        result.Save(At("result.json"));
    }

    /// <summary>Takes back a new run of which nothing has been recorded, because its settings were refused for example: the next attempt would stumble over it. Anything else stays.</summary>
    public void DiscardIfBlank()
    {
        if (_begun || _savedStep is not null || Recorder.LogOffset > 0)
            return;
        Recorder.Dispose();
        File.Delete(At(RunManifest.FileName));
        File.Delete(At(LogName));
        foreach (string folder in (string[])[BoardsName, InitialName])
        {
            if (Directory.Exists(At(folder)))
                Directory.Delete(At(folder), recursive: true);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Recorder.Dispose();
        _lock.Dispose();
    }

    // True where the folder holds a run, false where it is new or empty; everything else is refused.
    private static bool RequireOurs(string folder, bool resume)
    {
        if (!Directory.Exists(folder))
            return false;
        bool begun = File.Exists(System.IO.Path.Combine(folder, RunManifest.FileName));
        if (begun)
        {
            return resume ? true
                : throw new IOException($"{folder}: making a run folder; a run is there already. Go on with it by --resume, or give another 'output'.");
        }
        // A process that was killed before run.json was there leaves a lock and perhaps a temporary file.
        string[] others = [.. Directory.EnumerateFileSystemEntries(folder).Select(e => System.IO.Path.GetFileName(e)!)
            .Where(e => !RunLock.IsOwn(e) && !e.StartsWith(RunManifest.FileName + ".", StringComparison.Ordinal)).Order(StringComparer.Ordinal).Take(4)];
        return others.Length == 0 ? false
            : throw new IOException($"{folder}: making a run folder; it holds {string.Join(", ", others.Take(3))}{(others.Length > 3 ? ", ..." : "")} and no {RunManifest.FileName}, expected an empty or missing folder. Give another 'output'.");
    }

    private RunRecorder OpenRecorder(TimeProvider clock)
    {
        var open = new List<IDisposable>();
        try
        {
            var log = new AppendedFile(At(LogName), State?.LogOffset ?? 0);
            open.Add(log);
            var boards = new TensorBoardFile[_rows.Count];
            for (int i = 0; i < boards.Length; i++)
            {
                string folder = At(BoardsName, _rows[i].Name);
                Directory.CreateDirectory(folder);
                string file = System.IO.Path.Combine(folder, $"events.out.tfevents.{_manifest.CreatedUnixSeconds}.{_manifest.Host}");
                boards[i] = new TensorBoardFile(file, State?.BoardOffsets[i] ?? 0, clock);
                open.Add(boards[i]);
            }
            return new RunRecorder(log, boards, _rows, Config.Training.LogEvery);
        }
        catch
        {
            foreach (IDisposable file in open)
                file.Dispose();
            throw;
        }
    }

    private string At(params ReadOnlySpan<string> parts) => System.IO.Path.Combine([Path, .. parts]);
}
