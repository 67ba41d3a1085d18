// `iptnative transfer`: prompts of source tasks scored on target tasks, zero-shot.
using System.CommandLine;
using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using IptNative.Cli.Terminal;
using IptNative.Model.Checkpoints;
using IptNative.Model.Forward;
using IptNative.Model.Tokenizer;
using IptNative.Tasks.Casting;
using IptNative.Tasks.Data;
using IptNative.Tuning.Data;
using IptNative.Tuning.Evaluation;
using IptNative.Tuning.Prompts;
using IptNative.Tuning.Reports;

namespace IptNative.Cli.Commands;

internal static partial class TransferCommand
{
    private const string NoPrompt = "none";

    public static Command Create()
    {
        var defaults = new EvaluationOptions();
        var model = new Option<string>("--model") { Description = "Package, checkpoint folder, weight file or Hub name.", Required = true };
        var prompts = new Option<string[]>("--prompts") { Description = "Folder of prompts named after their tasks (sst2, or sst2-seed42: seeds of one task are averaged), or one as TASK=PATH. May be given several times.", Required = true, Arity = ArgumentArity.OneOrMore };
        var data = new Option<string?>("--data") { Description = "Folder of a gym that holds the target tasks." };
        var target = new Option<string[]>("--target") { Description = "Target task: its name in --data or its own folder. Without it every source task.", Arity = ArgumentArity.OneOrMore, DefaultValueFactory = _ => [] };
        var map = new Option<string[]>("--map") { Description = "What another task's answer means in a target: TARGET:duplicate=equivalent.", Arity = ArgumentArity.OneOrMore, DefaultValueFactory = _ => [] };
        var casting = new Option<string[]>("--casting") { Description = "Reads a target's .jsonl records as a known task: TARGET=mrqa.", Arity = ArgumentArity.OneOrMore, DefaultValueFactory = _ => [] };
        var split = new Option<string>("--split") { Description = "train, dev or test.", DefaultValueFactory = _ => "test" };
        var shots = new Option<int?>("--shots") { Description = "K of the K-shot sample, where the folders have several." };
        var prefix = new Option<bool>("--task-prefix") { Description = "Puts '[target] ' before every input." };
        var limit = new Option<int?>("--limit") { Description = "Only the first N examples of each target." };
        var batch = new Option<int>("--batch-size") { Description = "Examples computed together; changes no answer.", DefaultValueFactory = _ => defaults.BatchSize };
        var threads = new ThreadsOption();
        var html = new Option<string?>("--html") { Description = "File for a page with the heat maps." };
        var asJson = new Option<bool>("--json") { Description = "One JSON object instead of a table." };
        var command = new Command("transfer", "Score prompts of source tasks on target tasks without further training.");
        foreach (Option option in (Option[])[model, prompts, data, target, map, casting, split, shots, prefix, limit, batch, threads, html, asJson])
            command.Options.Add(option);
        command.WithExamples(
            "iptnative transfer --model models/t5-gym-tiny --prompts runs/quickstart/best --data examples/gym --html transfer.html",
            "iptnative transfer --model google/t5-base-lm-adapt --prompts qqp=runs/qqp/best --data data/glue --target mrpc --map mrpc:duplicate=equivalent --map mrpc:not_duplicate=not_equivalent",
            "iptnative transfer --model google/t5-base-lm-adapt --prompts squad=runs/squad/best --data data/mrqa --target bioasq --target drop --casting bioasq=mrqa --casting drop=mrqa --split dev");
        command.SetRun((parsed, cancel) =>
        {
            if (parsed.GetValue(split) is not ("train" or "dev" or "test"))
                throw new UsageException($"--split is {parsed.GetValue(split)}, expected train, dev or test.");
            if (parsed.GetValue(limit) < 1)
                throw new UsageException($"--limit is {parsed.GetValue(limit)}, expected 1 or more.");
            var options = new EvaluationOptions { BatchSize = parsed.GetValue(batch) };
            try
            {
                options.Validate();
            }
            catch (ArgumentException e)
            {
                throw new UsageException(e.Message);
            }
            (string Task, string Path)[] named = [.. parsed.GetValue(prompts)!.SelectMany(Named)];
            string[] sources = [.. named.Select(n => n.Task).Distinct(StringComparer.Ordinal)];
            string[] wanted = parsed.GetValue(target)!.Length > 0 ? parsed.GetValue(target)! : sources;
            TaskData[] tasks = [.. wanted.Select(t => TaskData.Load(new TaskSource { Task = t, Data = parsed.GetValue(data), Shots = parsed.GetValue(shots), Casting = CastAs(t, parsed.GetValue(casting)!, wanted) }))];
            Dictionary<string, Dictionary<string, string>> words = Words(parsed.GetValue(map)!, tasks);
            Prompt[] values = [.. named.Select(n => PromptFile.Read(n.Path))];
            int templated = Array.FindIndex(values, v => v.Template is not null);
            if (templated >= 0)
                throw new UsageException($"--prompts: {named[templated].Path} has the template \"{values[templated].Template}\", expected prompts that stand before the text: a template says how its own task's texts are read.");

            using Checkpoint checkpoint = Checkpoint.Open(parsed.GetValue(model)!);
            for (int i = 0; i < values.Length; i++)
                values[i].RequireModel(checkpoint.Config, named[i].Path);
            T5Tokenizer tokenizer = T5Tokenizer.Load(Checkpoint.FolderOf(parsed.GetValue(model)!), checkpoint.Config.VocabSize);
            using FrozenT5 frozen = FrozenT5.Load(checkpoint, new FrozenT5Options { Threads = threads.Of(parsed) });
            using var memory = new PromptMemory(frozen.Device, values);
            var encoding = new EncodingOptions { TaskPrefix = parsed.GetValue(prefix) };
            TransferTarget[] targets = [.. tasks.Select(t => new TransferTarget(EncodedExamples.Encode(tokenizer, t, parsed.GetValue(split)!, encoding, parsed.GetValue(limit)), words.GetValueOrDefault(t.Name, [])))];
            TransferSource[] lines = [.. sources.Select(s => new TransferSource(s, [.. named.Index().Where(n => n.Item.Task == s).Select(n => n.Index)])), new TransferSource(NoPrompt, [])];
            TransferMatrix matrix;
            using (var progress = new ProgressLine("evaluating"))
                matrix = TaskTransfer.Measure(new Evaluator(frozen, tokenizer), memory.Table, lines, targets, options, (done, total) => progress.Report(done, total), cancel);
            if (parsed.GetValue(html) is { } file)
                AtomicFile.Write(file, stream => stream.Write(Encoding.UTF8.GetBytes(Page(parsed.GetValue(model)!, parsed.GetValue(split)!, matrix))));
            using TextWriter output = StandardOutput.Open();
            if (parsed.GetValue(asJson))
                WriteJson(output, matrix);
            else
                WriteTable(output, matrix);
            return ExitCode.Done;
        });
        return command;
    }

    // TASK=PATH, or a prompt or folder of prompts that are called by their entries' names.
    private static IEnumerable<(string Task, string Path)> Named(string argument)
    {
        int equals = argument.IndexOf('=', StringComparison.Ordinal);
        if (equals > 0 && !Path.Exists(argument))
            return [(argument[..equals], argument[(equals + 1)..])];
        return PromptFolder.Expand([argument]).Select(e => (Seed().Replace(Path.GetFileNameWithoutExtension(Path.TrimEndingDirectorySeparator(e.Name)), ""), e.Path));
    }

    private static string? CastAs(string target, string[] castings, string[] targets)
    {
        foreach (string text in castings)
        {
            int equals = text.LastIndexOf('=');
            if (equals < 1 || !targets.Contains(text[..equals], StringComparer.Ordinal))
                throw new UsageException($"--casting {text}: expected TARGET=TASK with one of the targets {string.Join(", ", targets)}, for example {targets[0]}=mrqa.");
            if (!TaskCasting.Names.Contains(text[(equals + 1)..]))
                throw new UsageException($"--casting {text}: '{text[(equals + 1)..]}' is no known task, expected one of {string.Join(", ", TaskCasting.Names)}.");
        }
        return castings.FirstOrDefault(c => c.StartsWith(target + "=", StringComparison.Ordinal))?[(target.Length + 1)..];
    }

    private static Dictionary<string, Dictionary<string, string>> Words(string[] maps, TaskData[] tasks)
    {
        var words = new Dictionary<string, Dictionary<string, string>>(StringComparer.Ordinal);
        foreach (string text in maps)
        {
            Match match = Mapping().Match(text);
            if (!match.Success)
                throw new UsageException($"--map {text}: expected TARGET:ANSWER=LABEL, for example mrpc:duplicate=equivalent.");
            TaskData task = tasks.FirstOrDefault(t => t.Name == match.Groups[1].Value)
                ?? throw new UsageException($"--map {text}: found no target '{match.Groups[1].Value}', expected one of {string.Join(", ", tasks.Select(t => t.Name))}.");
            if (task.Labels.Count > 0 && !task.Labels.Contains(match.Groups[3].Value, StringComparer.Ordinal))
                throw new UsageException($"--map {text}: '{match.Groups[3].Value}' is no label of {task.Name}, expected one of {string.Join(", ", task.Labels.Take(10))}.");
            if (!words.TryGetValue(task.Name, out Dictionary<string, string>? own))
                words.Add(task.Name, own = new Dictionary<string, string>(StringComparer.Ordinal));
            own[match.Groups[2].Value] = match.Groups[3].Value;
        }
        return words;
    }

    private static void WriteTable(TextWriter output, TransferMatrix matrix)
    {
        int width = Math.Max(12, matrix.Sources.Max(s => s.Length) + 2);
        int[] columns = [.. matrix.Targets.Select(t => Math.Max(16, t.Length + 2))];
        output.WriteLine($"{"prompt of".PadRight(width)}{string.Concat(matrix.Targets.Zip(columns, (t, w) => t.PadLeft(w)))}");
        for (int s = 0; s < matrix.Sources.Count; s++)
            output.WriteLine($"{matrix.Sources[s].PadRight(width)}{string.Concat(matrix.Scores[s].Zip(columns, (v, w) => Cell(v).PadLeft(w)))}");
    }

    private static string Cell(ScoreSpread score) => score.Count > 1 ? $"{score.Mean:0.000} ± {score.StandardDeviation:0.000}" : $"{score.Mean:0.000}";

    private static void WriteJson(TextWriter output, TransferMatrix matrix) => JsonOutput.WriteObject(output, json =>
    {
        json.WriteStartArray("scores");
        for (int s = 0; s < matrix.Sources.Count; s++)
        {
            for (int t = 0; t < matrix.Targets.Count; t++)
            {
                ScoreSpread score = matrix.Scores[s][t];
                json.WriteStartObject();
                json.WriteString("source", matrix.Sources[s]);
                json.WriteString("target", matrix.Targets[t]);
                json.WriteNumber("prompts", score.Count);
                if (double.IsFinite(score.Mean))
                    json.WriteNumber("mean", score.Mean);
                if (score.Count > 1 && double.IsFinite(score.StandardDeviation))
                    json.WriteNumber("standard_deviation", score.StandardDeviation);
                if (matrix.Relative(s, t) is var relative && double.IsFinite(relative))
                    json.WriteNumber("relative", relative);
                json.WriteEndObject();
            }
        }
        json.WriteEndArray();
    }, indented: true);

    private static string Page(string model, string split, TransferMatrix matrix)
    {
        KeyValuePair<string, IReadOnlyList<double>>[] Rows(Func<int, int, double> value) =>
            [.. matrix.Sources.Select((name, s) => KeyValuePair.Create(name, (IReadOnlyList<double>)[.. matrix.Targets.Select((_, t) => value(s, t))]))];
        return new HtmlPage("Zero-shot transfer", $"prompts of source tasks on the {split} split of target tasks; frozen {model}")
            .Figures(
                (Charts.HeatMap(new ChartText("Scores", "target task", "prompt of"), matrix.Targets, Rows((s, t) => matrix.Scores[s][t].Mean), percent: true, full: 1), "Scores.", "The mean of each task's metrics, over the source's prompts."),
                (Charts.HeatMap(new ChartText("Share of the target's own prompts", "target task", "prompt of"), matrix.Targets, Rows(matrix.Relative), percent: true, full: 1), "Relative.", "What the target's own prompts reach is 100 %; empty where it has none or they score 0."))
            .Section("Scores")
            .Table([new("prompt of", false), .. matrix.Targets.Select(t => new HtmlColumn(t))], matrix.Sources.Select((name, s) => (IReadOnlyList<string>)[name, .. matrix.Scores[s].Select(v => string.Create(CultureInfo.InvariantCulture, $"{Cell(v)}"))]))
            .ToString();
    }

    [GeneratedRegex("-seed[0-9]+$")]
    private static partial Regex Seed();

    [GeneratedRegex("^([^:]+):([^=]+)=(.+)$")]
    private static partial Regex Mapping();
}
