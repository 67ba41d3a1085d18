// Finished jobs on disk: one folder, found again by hash. Deliberately not which jobs there are: that is the plan's.
using System.Text.Encodings.Web;
using System.Text.Json;
using IptNative.Kernels;
using IptNative.Model.Checkpoints;

namespace IptNative.Tuning.Experiments;

/// <summary>An experiment's folder of finished jobs. A batch appears by one rename, whole or not at all.</summary>
/// <remarks>
/// jobs/BATCH/timings.json and jobs/BATCH/JOB/{result.json, tensors.safetensors}, BATCH and JOB being the first 16 digits of the hashes;
/// working/BATCH is the running batch's. A job is looked up by its own hash, so that after a changed option whatever does not depend on it is still there.
/// </remarks>
public sealed class JobStore : IDisposable
{
    /// <summary>File of a job's tensors.</summary>
    public const string TensorFileName = "tensors.safetensors";

    private const string TimingsName = "timings.json";
    private const int FolderDigits = 16;
    private const long MaxJsonBytes = 1 << 26;
    private static readonly JsonWriterOptions Pretty = new() { Indented = true, NewLine = "\n", Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    private readonly Dictionary<string, StoredJob> _byHash = new(StringComparer.Ordinal);
    private readonly Dictionary<string, JobTiming> _timings = new(StringComparer.Ordinal);
    private readonly FileStream _lock;
    private readonly string _folder;

    private JobStore(string folder, FileStream fileLock) => (_folder, _lock) = (folder, fileLock);

    /// <summary>The experiment's output folder.</summary>
    public string Folder => _folder;

    /// <summary>Times of all stored jobs, by hash.</summary>
    public IReadOnlyDictionary<string, JobTiming> Timings => _timings;

    private string Jobs => Path.Combine(_folder, "jobs");

    private string Working => Path.Combine(_folder, "working");

    /// <summary>Opens or makes a folder and holds it: a second process is refused.</summary>
    /// <param name="folder">The experiment's output folder.</param>
    /// <returns>The store; dispose it.</returns>
    /// <exception cref="InvalidDataException">A stored job is damaged; the message names its file.</exception>
    /// <exception cref="IOException">The folder cannot be written, or another process holds it.</exception>
    public static JobStore Open(string folder)
    {
        ArgumentException.ThrowIfNullOrEmpty(folder);
        Directory.CreateDirectory(folder);
        string lockPath = Path.Combine(folder, ".lock");
        FileStream fileLock;
        try
        {
            fileLock = new FileStream(lockPath, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
        }
        catch (IOException e) when (File.Exists(lockPath))
        {
            throw new IOException($"{folder}: opening the experiment's folder; another process holds it ({e.Message}). Wait for it, or choose another --out.", e);
        }
        var store = new JobStore(folder, fileLock);
        try
        {
            // A process that was killed while it wrote the report leaves half a file under another name.
            AtomicFile.RemoveLeftovers(folder);
            store.Scan();
            return store;
        }
        catch
        {
            store.Dispose();
            throw;
        }
    }

    /// <summary>The stored result of a job.</summary>
    /// <param name="job">A job of the plan.</param>
    /// <returns>The result, or null where it is not done.</returns>
    public StoredJob? Find(Job job) => _byHash.TryGetValue(job.Hash, out StoredJob? stored) ? stored with { Job = job.Key } : null;

    /// <summary>The working folder of a batch, made where it is missing.</summary>
    /// <param name="batch">A batch.</param>
    /// <returns>Its path.</returns>
    public string WorkFolder(JobBatch batch)
    {
        string folder = Path.Combine(Working, batch.Hash[..FolderDigits]);
        Directory.CreateDirectory(folder);
        return folder;
    }

    /// <summary>Keeps a batch's results: written beside, flushed, then renamed.</summary>
    /// <param name="batch">The batch.</param>
    /// <param name="results">One per job, in order.</param>
    /// <param name="seconds">Wall time of the batch.</param>
    /// <exception cref="ArgumentException">There are more or fewer results than jobs, or a result has neither scores nor tensors nor a failure.</exception>
    /// <exception cref="IOException">The disk is full, or the folder cannot be written: what was stored before is untouched.</exception>
    public void Add(JobBatch batch, IReadOnlyList<JobResult> results, double seconds)
    {
        if (results.Count != batch.Jobs.Count)
            throw new ArgumentException($"Storing a batch of {batch.Kind.Name()}: found {results.Count} results, expected one for each of {batch.Jobs.Count} jobs.", nameof(results));
        string name = batch.Hash[..FolderDigits];
        string fresh = Path.Combine(Working, name + ".done"), final = Path.Combine(Jobs, name);
        if (Directory.Exists(fresh)) Directory.Delete(fresh, recursive: true);
        double positions = batch.TrainPositions + batch.EvaluatePositions;
        List<(Job Job, JobTiming Timing)> timings = [];
        for (int i = 0; i < results.Count; i++)
        {
            (Job job, JobResult result) = (batch.Jobs[i], results[i]);
            if (result.Failure is null && result.Scores.Count == 0 && result.Tensors.Count == 0)
                throw new ArgumentException($"Storing {job.Key}: the result has neither scores nor tensors nor a failure; expected at least one.", nameof(results));
            string folder = Path.Combine(fresh, job.Hash[..FolderDigits]);
            Directory.CreateDirectory(folder);
            if (result.Tensors.Count > 0) WriteTensors(Path.Combine(folder, TensorFileName), job, result);
            double share = positions > 0 ? (job.TrainPositions + job.EvaluatePositions) / positions : 1.0 / results.Count;
            timings.Add((job, new JobTiming(batch.Kind, result.Seconds > 0 ? result.Seconds : seconds * share, job.TrainPositions, job.EvaluatePositions)));
            WriteJson(Path.Combine(folder, "result.json"), json => ResultJson.Write(json, job, result));
        }
        WriteJson(Path.Combine(fresh, TimingsName), json =>
        {
            foreach ((Job job, JobTiming timing) in timings)
            {
                json.WriteStartObject(job.Hash);
                timing.Write(json);
                json.WriteEndObject();
            }
        });
        Directory.CreateDirectory(Jobs);
        // Only a batch whose folder was emptied by hand can be in the way: its jobs were not found, or they would not have been run.
        if (Directory.Exists(final)) Directory.Delete(final, recursive: true);
        Directory.Move(fresh, final);
        string work = Path.Combine(Working, name);
        if (Directory.Exists(work)) Directory.Delete(work, recursive: true);
        LoadBatch(final);
    }

    /// <summary>Reads a tensor of a stored job.</summary>
    /// <param name="stored">The job.</param>
    /// <param name="name">The tensor's name.</param>
    /// <returns>Values, row-major.</returns>
    /// <exception cref="InvalidDataException">There is no such tensor, or the file is damaged.</exception>
    public static JobTensor ReadTensor(StoredJob stored, string name)
    {
        ArgumentNullException.ThrowIfNull(stored);
        if (!File.Exists(stored.TensorPath))
            throw new InvalidDataException($"{stored.TensorPath}: reading tensor '{name}' of {stored.Job}; there is no such file. Delete {stored.Folder} to run the job again.");
        using TensorFile file = TensorFile.Open(stored.TensorPath);
        TensorShape shape = file.Describe(name).Shape;
        return new JobTensor([.. shape.Dims], file.ReadFloats(name));
    }

    /// <summary>Lets the folder go.</summary>
    public void Dispose() => _lock.Dispose();

    private void Scan()
    {
        if (!Directory.Exists(Jobs)) return;
        foreach (string batch in Directory.GetDirectories(Jobs).Order(StringComparer.Ordinal)) LoadBatch(batch);
    }

    private void LoadBatch(string folder)
    {
        foreach (string job in Directory.GetDirectories(folder).Order(StringComparer.Ordinal)) Load(job);
        foreach ((string hash, JobTiming timing) in ReadJson(Path.Combine(folder, TimingsName), json => json.EnumerateObject().Select(p => (p.Name, JobTiming.Read(p.Value))).ToList())) _timings[hash] = timing;
    }

    private void Load(string folder)
    {
        string path = Path.Combine(folder, "result.json");
        (string hash, JobResult result) = ReadJson(path, ResultJson.Read);
        if (!hash.StartsWith(Path.GetFileName(folder), StringComparison.Ordinal))
            throw new InvalidDataException($"{path}: the result is of the job {hash[..FolderDigits]}, its folder is {Path.GetFileName(folder)}. The folder was renamed or copied: delete it to run the job again.");
        _byHash[hash] = new StoredJob(hash, hash, folder, result);
    }

    private static T ReadJson<T>(string path, Func<JsonElement, T> read)
    {
        string advice = $"Delete {Path.GetDirectoryName(path)} to run the job again.";
        if (!File.Exists(path)) throw new InvalidDataException($"{path}: opening a finished job; the file is missing. {advice}");
        if (new FileInfo(path).Length is > MaxJsonBytes and var bytes) throw new InvalidDataException($"{path}: found {bytes} bytes, expected at most {MaxJsonBytes}. {advice}");
        try
        {
            using JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(path));
            return read(document.RootElement);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or KeyNotFoundException or FormatException)
        {
            throw new InvalidDataException($"{path}: opening a finished job; it is damaged ({e.Message}). {advice}", e);
        }
    }

    private static void WriteJson(string path, Action<Utf8JsonWriter> write) => AtomicFile.Write(path, stream =>
    {
        using (var json = new Utf8JsonWriter(stream, Pretty))
        {
            json.WriteStartObject();
            write(json);
            json.WriteEndObject();
        }
        stream.WriteByte((byte)'\n');
    });

    private static void WriteTensors(string path, Job job, JobResult result)
    {
        var writer = new SafetensorsWriter().WithMetadata("job", job.Key).WithMetadata("hash", job.Hash);
        foreach ((string key, string text) in result.Notes) writer.WithMetadata(key, text);
        foreach ((string tensor, JobTensor t) in result.Tensors) writer.Add(tensor, new TensorShape([.. t.Shape]), t.Values);
        writer.Save(path);
    }
}

/// <summary>What a job took.</summary>
/// <param name="Kind">Its kind.</param>
/// <param name="Seconds">Wall time, its share of the batch's.</param>
/// <param name="TrainPositions">The plan's estimate of trained positions.</param>
/// <param name="EvaluatePositions">The plan's estimate of evaluated positions.</param>
public sealed record JobTiming(JobKind Kind, double Seconds, double TrainPositions, double EvaluatePositions)
{
    internal void Write(Utf8JsonWriter json)
    {
        json.WriteString("kind", Kind.Name());
        json.WriteNumber("seconds", Math.Round(Seconds, 6));
        json.WriteNumber("train_positions", TrainPositions);
        json.WriteNumber("evaluate_positions", EvaluatePositions);
    }

    internal static JobTiming Read(JsonElement json)
    {
        string name = json.GetProperty("kind").GetString() ?? "";
        JobKind[] kinds = [.. Enum.GetValues<JobKind>().Where(k => k.Name() == name)];
        if (kinds.Length == 0) throw new FormatException($"kind \"{name}\" is unknown");
        return new JobTiming(kinds[0], json.GetProperty("seconds").GetDouble(), json.GetProperty("train_positions").GetDouble(), json.GetProperty("evaluate_positions").GetDouble());
    }
}
