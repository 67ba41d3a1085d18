// `iptnative sweep`: one run file over a grid of options, resumable, in shards, on one machine or as a Slurm job array.
using System.CommandLine;
using System.Reflection;
using IptNative.Cli.Terminal;
using IptNative.Tuning.Sweeps;
using IptNative.Tuning.Training;

namespace IptNative.Cli.Commands;

internal static class SweepCommand
{
    public static Command Create()
    {
        var file = new Argument<string>("sweep") { Description = "JSON with 'run' (a run file) and 'grid' (option: [values], every combination) or 'ablate' (one option at a time); also 'set', 'x' and 'output'." };
        var set = new Option<string[]>("--set") { Description = "Changes an option of every point: --set training.steps=50; may be given several times.", DefaultValueFactory = _ => [] };
        var shard = new Option<string?>("--shard") { Description = "Only part i of n: --shard 2/8. Parts may run at once and write into one folder." };
        var output = new Option<string?>("--output") { Description = "Folder of the points and the table." };
        var list = new Option<bool>("--list") { Description = "Lists the points and stops." };
        var show = new Option<bool>("--table") { Description = "Writes and prints the table of what is done, and trains nothing." };
        var slurm = new Option<bool>("--slurm") { Description = "Submits the points that are not done as a Slurm job array, a shard a task." };
        var shards = new Option<int?>("--shards") { Description = "With --slurm: tasks of the array; without it one per point." };
        var sbatch = new Option<string[]>("--sbatch") { Description = "With --slurm: a word for sbatch, for example --sbatch=--cpus-per-task=4; may be given several times.", DefaultValueFactory = _ => [] };
        var wait = new Option<bool>("--wait") { Description = "With --slurm: comes back when the array has ended, with the table." };
        var dry = new Option<bool>("--dry-run") { Description = "With --slurm: prints the batch script and submits nothing." };
        var command = new Command("sweep", "Train one run over many options; started again it goes on where it was.") { file, set, shard, output, list, show, slurm, shards, sbatch, wait, dry };
        command.WithExamples(
            "iptnative sweep examples/sweep-length.json",
            "iptnative sweep examples/sweep-lester.json --set training.runs=5 --list",
            "iptnative sweep examples/sweep-length.json --shard 1/2 --output /shared/sweep & iptnative sweep examples/sweep-length.json --shard 2/2 --output /shared/sweep",
            "iptnative sweep examples/sweep-length.json --output /shared/sweep --slurm --sbatch=--partition=short --sbatch=--cpus-per-task=4",
            "iptnative sweep examples/sweep-length.json --output /shared/sweep --table");
        command.SetRun((parsed, cancel) =>
        {
            bool array = parsed.GetValue(slurm);
            if (!array && (parsed.GetValue(shards) is not null || parsed.GetValue(sbatch)!.Length > 0 || parsed.GetValue(wait) || parsed.GetValue(dry)))
                throw new UsageException("--shards, --sbatch, --wait and --dry-run are for --slurm, which is missing.");
            if (array && parsed.GetValue(shard) is not null)
                throw new UsageException("--slurm and --shard: found both, expected one: every task of the array gets its own shard. Say how many by --shards.");
            SweepShard part = SweepShard.Whole;
            try
            {
                if (parsed.GetValue(shard) is { } text)
                    part = SweepShard.Parse(text);
            }
            catch (ArgumentException e)
            {
                throw new UsageException($"--{e.Message}");
            }
            SweepPlan plan = SweepPlan.Load(parsed.GetValue(file)!, parsed.GetValue(output), parsed.GetValue(set)!);
            using TextWriter terminal = StandardOutput.Open();
            if (parsed.GetValue(list))
            {
                foreach (SweepPoint point in plan.Points.Where(part.Has))
                    terminal.WriteLine(point.Name);
                return ExitCode.Done;
            }
            if (array)
                return Submit(terminal, plan, new SlurmOptions
                {
                    Command = [.. Program(), "sweep", Path.GetFullPath(parsed.GetValue(file)!), "--output", plan.Folder, .. parsed.GetValue(set)!.SelectMany(s => new[] { "--set", s })],
                    WorkingFolder = Environment.CurrentDirectory,
                    Shards = parsed.GetValue(shards),
                    Sbatch = parsed.GetValue(sbatch)!,
                    Wait = parsed.GetValue(wait),
                }, parsed.GetValue(dry), cancel);
            SweepTable table = parsed.GetValue(show) ? SweepRun.Publish(plan) : SweepRun.Execute(plan, part, point =>
            {
                using var display = new TrainingDisplay(Console.Error, DisplayOptions.OfConsole());
                TrainRun.Execute(point.Config, resume: true, display, display.Say, cancel);
            }, line => Console.Error.WriteLine($"iptnative: {line}"), cancel);
            WriteTable(terminal, plan, table);
            return ExitCode.Done;
        });
        return command;
    }

    private static int Submit(TextWriter terminal, SweepPlan plan, SlurmOptions options, bool dry, CancellationToken cancel)
    {
        SlurmArray array;
        try
        {
            array = new SlurmArray(plan, options, SlurmPrograms.Run);
        }
        catch (ArgumentException e)
        {
            throw new UsageException($"--{e.Message.Split(" (Parameter")[0]}");
        }
        if (dry)
        {
            terminal.Write(array.Script());
            return ExitCode.Done;
        }
        SlurmSubmission? made = null;
        try
        {
            made = array.Submit(now =>
            {
                made = now;
                Console.Error.WriteLine($"iptnative: submitted job {now.Job}, tasks {now.Tasks}; the script and the logs are in {Path.GetDirectoryName(now.Script)}");
            }, cancel);
        }
        catch (InvalidOperationException e)
        {
            return ExitCode.Report(e.Message, ExitCode.Failed);
        }
        catch (OperationCanceledException) when (made is not null)
        {
            return ExitCode.Report($"no longer waiting. Job {made.Job} goes on; 'scancel {made.Job}' ends it.", ExitCode.Interrupted);
        }
        if (made.Job is null)
            Console.Error.WriteLine("iptnative: every point is done, nothing was submitted");
        else if (!options.Wait)
        {
            terminal.WriteLine($"Submitted job {made.Job}. 'squeue --jobs={made.Job}' shows its tasks; the same command with --table instead of --slurm shows the scores.");
            return ExitCode.Done;
        }
        SweepTable table = SweepRun.Publish(plan);
        WriteTable(terminal, plan, table);
        return table.Done == table.Points ? ExitCode.Done
            : ExitCode.Report($"sweep: {table.Points - table.Done} of {table.Points} points are not done{(made.Failed ? ", a task of the array failed" : "")}. The logs in {Path.GetDirectoryName(made.Script)} say why; submitted again, the sweep goes on.", ExitCode.Failed);
    }

    // How this process was started, so that every task is the same build: a host of its own, or dotnet and the program.
    private static string[] Program()
    {
        string process = Environment.ProcessPath!; // known on every system that .NET runs programs on
        string[] program = Path.GetFileNameWithoutExtension(process) == "dotnet" ? [process, Assembly.GetEntryAssembly()!.Location] : [process]; // a managed program has one
        return Environment.GetEnvironmentVariable("DOTNET_ROOT") is { Length: > 0 } root ? ["env", $"DOTNET_ROOT={root}", .. program] : program;
    }

    private static void WriteTable(TextWriter output, SweepPlan plan, SweepTable table)
    {
        int[] widths = [.. plan.Axes.Select((a, i) => Math.Max(a.Length, table.Scores.Select(s => s.Values[i].Length).DefaultIfEmpty(0).Max()) + 2)];
        int task = Math.Max(6, table.Scores.Select(s => s.Task.Length).DefaultIfEmpty(0).Max() + 2);
        output.WriteLine($"{string.Concat(plan.Axes.Zip(widths, (a, w) => a.PadRight(w)))}{"task".PadRight(task)}{"split",-6}{"score",16}{"seeds",7}");
        foreach (SweepScore s in table.Scores)
            output.WriteLine($"{string.Concat(s.Values.Zip(widths, (v, w) => v.PadRight(w)))}{s.Task.PadRight(task)}{s.Split,-6}{(double.IsFinite(s.Deviation) ? $"{s.Mean:0.000} ± {s.Deviation:0.000}" : $"{s.Mean:0.000}"),16}{s.Runs,7}");
        output.WriteLine($"{table.Done} of {table.Points} points; table and figures are in {Path.Combine(plan.Folder, "sweep.csv")} and sweep.html");
    }
}
