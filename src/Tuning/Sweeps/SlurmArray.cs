// A sweep as a Slurm job array: one shard a task. Deliberately no scheduler of our own: queueing, requeueing and limits are Slurm's, resuming is the sweep's.
using System.Globalization;
using System.Text;
using System.Text.Json;
using IptNative.Model.Checkpoints;
using IptNative.Tuning.Runs;

namespace IptNative.Tuning.Sweeps;

/// <summary>How a sweep becomes a job array.</summary>
public sealed record SlurmOptions
{
    /// <summary>What each task starts: the program and the words of its command line up to <c>--shard</c>.</summary>
    public required IReadOnlyList<string> Command { get; init; }

    /// <summary>Where each task starts it.</summary>
    public required string WorkingFolder { get; init; }

    /// <summary>Tasks of the array; null is one per point.</summary>
    public int? Shards { get; init; }

    /// <summary>Words for sbatch, for example --partition=short.</summary>
    public IReadOnlyList<string> Sbatch { get; init; } = [];

    /// <summary>Come back when the array has ended.</summary>
    public bool Wait { get; init; }
}

/// <summary>What a program of Slurm's came to.</summary>
/// <param name="Code">Exit code.</param>
/// <param name="Output">What it printed.</param>
/// <param name="Error">What it complained about.</param>
public sealed record SlurmReply(int Code, string Output, string Error);

/// <summary>Runs one of Slurm's programs; lines of its output are told as they come.</summary>
/// <param name="program">sbatch or squeue.</param>
/// <param name="arguments">Its words.</param>
/// <param name="line">Told each line of the output at once; null where nobody waits for it.</param>
/// <param name="cancel">Ends the program.</param>
/// <returns>How it ended.</returns>
public delegate SlurmReply SlurmProgram(string program, IReadOnlyList<string> arguments, Action<string>? line, CancellationToken cancel);

/// <summary>What was submitted.</summary>
/// <param name="Job">Slurm's number of the array; null where nothing was left to do.</param>
/// <param name="Tasks">The array's tasks as Slurm writes them: 1-3,7.</param>
/// <param name="Script">The batch script.</param>
/// <param name="Failed">The array was waited for, and a task of it failed.</param>
public sealed record SlurmSubmission(string? Job, string Tasks, string Script, bool Failed = false);

/// <summary>Writes and submits a sweep's job array.</summary>
/// <remarks>
/// Below the sweep's folder, slurm/job.sh is what Slurm runs and slurm/job.json remembers the array, so that a second submission of a sweep whose array is still
/// in the queue is refused. A task that is killed and requeued goes on from its point's checkpoint; an array is submitted for shards that have something to do.
/// </remarks>
public sealed class SlurmArray
{
    private const string FolderName = "slurm", ScriptName = "job.sh", JobName = "job.json";

    private readonly SweepPlan _plan;
    private readonly SlurmOptions _options;
    private readonly SlurmProgram _run;
    private readonly int _shards;

    /// <summary>Prepares an array.</summary>
    /// <param name="plan">The sweep.</param>
    /// <param name="options">How.</param>
    /// <param name="run">Runs sbatch and squeue.</param>
    /// <exception cref="ArgumentException">There are to be fewer than 1 shards, or more than points.</exception>
    public SlurmArray(SweepPlan plan, SlurmOptions options, SlurmProgram run)
    {
        ArgumentNullException.ThrowIfNull(plan);
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(run);
        _shards = options.Shards ?? plan.Points.Count;
        if (_shards < 1 || _shards > plan.Points.Count)
            throw new ArgumentException($"shards is {_shards}, expected 1 to {plan.Points.Count}: the sweep has so many points.", nameof(options));
        (_plan, _options, _run) = (plan, options, run);
    }

    private string Folder => Path.Combine(_plan.Folder, FolderName);

    /// <summary>The batch script, as it is written for the shards that are left.</summary>
    /// <returns>Bash; empty where every point is done.</returns>
    public string Script()
    {
        string tasks = Left();
        return tasks.Length == 0 ? "" : Script(tasks);
    }

    /// <summary>Writes the script and submits it.</summary>
    /// <param name="submitted">Told Slurm's number as soon as there is one, before any waiting.</param>
    /// <param name="cancel">Ends the waiting; the array stays in the queue.</param>
    /// <returns>What was submitted.</returns>
    /// <exception cref="InvalidOperationException">The sweep's array is still in the queue.</exception>
    /// <exception cref="IOException">Slurm refused, or somebody else submits the sweep right now.</exception>
    public SlurmSubmission Submit(Action<SlurmSubmission> submitted, CancellationToken cancel)
    {
        ArgumentNullException.ThrowIfNull(submitted);
        Directory.CreateDirectory(Folder);
        string script = Path.Combine(Folder, ScriptName);
        SlurmSubmission? made = null;
        SlurmReply reply;
        using (RunLock.Take(Folder, "submitting the sweep", "Wait until that is done"))
        {
            RequireNoneInQueue(script, cancel);
            string tasks = Left();
            if (tasks.Length == 0)
                return new SlurmSubmission(null, "", script);
            AtomicFile.Write(script, stream => stream.Write(Encoding.UTF8.GetBytes(Script(tasks))));
            reply = _run("sbatch", [.. _options.Wait ? ["--wait"] : Array.Empty<string>(), "--parsable", .. _options.Sbatch, script], line =>
            {
                // "12", or "12;cluster". Written down at once: with --wait the array runs now.
                if (made is not null || line.Length == 0 || !line.Split(';')[0].All(char.IsAsciiDigit))
                    return;
                made = new SlurmSubmission(line.Split(';')[0], tasks, script);
                Remember(made);
                submitted(made);
            }, cancel);
        }
        cancel.ThrowIfCancellationRequested();
        // With --wait the exit code is the tasks', without it sbatch's own.
        return made is null || (reply.Code != 0 && !_options.Wait)
            ? throw new IOException($"{script}: submitting it to Slurm; sbatch ended with {reply.Code}: {Words(reply)}. Change the options (--sbatch), or submit the script by hand.")
            : made with { Failed = reply.Code != 0 };
    }

    private void RequireNoneInQueue(string script, CancellationToken cancel)
    {
        string path = Path.Combine(Folder, JobName);
        if (!File.Exists(path))
            return;
        string job;
        try
        {
            using var json = JsonDocument.Parse(File.ReadAllBytes(path));
            job = json.RootElement.GetProperty("job").GetString() ?? "";
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException)
        {
            throw new InvalidDataException($"{path}: reading the last job of the sweep; {e.Message} Look at 'squeue --me', then remove the file.", e);
        }
        SlurmReply reply = _run("squeue", ["--noheader", "--array", $"--jobs={job}", "--format=%o|%T"], null, cancel);
        if (reply.Code != 0)
        {
            // Slurm forgets jobs some minutes after their end.
            if (reply.Error.Contains("Invalid job id", StringComparison.OrdinalIgnoreCase))
                return;
            throw new IOException($"{path}: asking Slurm for job {job} of this sweep; squeue ended with {reply.Code}: {Words(reply)}. Nothing was submitted.");
        }
        // The number may be another cluster's, or a new controller's first: only this script's tasks count.
        string[] states = [.. reply.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)
            .Where(l => l.StartsWith(script + "|", StringComparison.Ordinal)).Select(l => l[(script.Length + 1)..])];
        if (states.Length > 0)
        {
            string counts = string.Join(", ", states.GroupBy(s => s).OrderByDescending(g => g.Count()).Select(g => $"{g.Count()} {g.Key.ToLowerInvariant()}"));
            throw new InvalidOperationException($"{_plan.Folder}: submitting the sweep; its job {job} is still in the queue ({counts}), expected none. Wait for it, or end it by 'scancel {job}' and submit again: what is done stays done.");
        }
    }

    // Shards with a point that is not done, as Slurm writes task numbers.
    private string Left()
    {
        int[] left = [.. Enumerable.Range(1, _shards).Where(s => _plan.Points.Where(new SweepShard(s, _shards).Has).Any(p => !SweepRun.IsDone(p)))];
        var text = new StringBuilder();
        for (int i = 0; i < left.Length;)
        {
            int end = i;
            while (end + 1 < left.Length && left[end + 1] == left[end] + 1)
                end++;
            text.Append(text.Length > 0 ? "," : "").Append(CultureInfo.InvariantCulture, $"{left[i]}").Append(end > i ? $"-{left[end]}" : "");
            i = end + 1;
        }
        return text.ToString();
    }

    private string Script(string tasks)
    {
        string log = Path.Combine(Folder, "%A_%a.log");
        // Slurm has no escape for a percent sign in a folder's name, so such a sweep's logs go where it is submitted.
        if (Folder.Contains('%', StringComparison.Ordinal))
            log = "iptnative-%A_%a.log";
        var text = new StringBuilder("#!/bin/bash\n");
        text.Append("# Written by 'iptnative sweep --slurm': a job array with one shard of the sweep as a task.\n")
            .Append("# A task that is killed and requeued goes on from its checkpoint. Submit it by that command, which knows what is done.\n")
            .Append(CultureInfo.InvariantCulture, $"#SBATCH --job-name={Name()}\n")
            .Append(CultureInfo.InvariantCulture, $"#SBATCH --array={tasks}\n")
            .Append(CultureInfo.InvariantCulture, $"#SBATCH --chdir=\"{_options.WorkingFolder}\"\n")
            .Append(CultureInfo.InvariantCulture, $"#SBATCH --output=\"{log}\"\n")
            .Append("#SBATCH --open-mode=append\n#SBATCH --requeue\n")
            // As many threads as the task was given processors, where it was given any: a node may have more than its share for it.
            .Append(_plan.Axes.Contains("threads") ? "" : "threads=${SLURM_CPUS_PER_TASK:+--set threads=$SLURM_CPUS_PER_TASK}\n")
            // The program itself is the task: Slurm's SIGTERM reaches it, and it saves a checkpoint.
            .Append("exec").Append(string.Concat(_options.Command.Select(w => " " + Quote(w))))
            .Append(CultureInfo.InvariantCulture, $" --shard \"$SLURM_ARRAY_TASK_ID/{_shards}\"")
            .Append(_plan.Axes.Contains("threads") ? "\n" : " $threads\n");
        return text.ToString();
    }

    // Words that a shell and sbatch take as they are.
    private string Name() => string.Concat(_plan.Name.Select(c => char.IsAsciiLetterOrDigit(c) || c is '.' or '_' or '-' ? c : '-'));

    private static string Quote(string word) => word.Length > 0 && word.All(c => char.IsAsciiLetterOrDigit(c) || c is '/' or '.' or '_' or '-' or '=' or ',' or ':' or '+') ? word
        : $"'{word.Replace("'", "'\\''", StringComparison.Ordinal)}'";

    private static string Words(SlurmReply reply)
    {
        string text = (reply.Error.Trim().Length > 0 ? reply.Error : reply.Output).Trim().ReplaceLineEndings("; ").TrimEnd('.');
        return text.Length > 0 ? text : "it said nothing";
    }

    private void Remember(SlurmSubmission made) => AtomicFile.Write(Path.Combine(Folder, JobName), stream =>
    {
        using var json = new Utf8JsonWriter(stream, new JsonWriterOptions { Indented = true });
        json.WriteStartObject();
        json.WriteString("job", made.Job);
        json.WriteString("tasks", made.Tasks);
        json.WriteNumber("shards", _shards);
        json.WriteEndObject();
    });
}
