// `iptnative inspect`: what a tuned prompt looks like from the vocabulary, and how alike several are.
using System.CommandLine;
using System.Text;
using IptNative.Cli.Terminal;
using IptNative.Model.Checkpoints;
using IptNative.Model.Tokenizer;
using IptNative.Tuning.Inspection;
using IptNative.Tuning.Prompts;
using IptNative.Tuning.Runs;

namespace IptNative.Cli.Commands;

internal static class InspectCommand
{
    public static Command Create()
    {
        var defaults = new InspectionOptions();
        var paths = new Argument<string[]>("prompt") { Description = "PEFT folder, .npy, .safetensors or .pt, or a folder of several.", Arity = ArgumentArity.OneOrMore };
        var model = new Option<string>("--model") { Description = "The model that the prompts were tuned for.", Required = true };
        var topK = new Option<int>("--top-k") { Description = "Nearest pieces of each row.", DefaultValueFactory = _ => defaults.TopK };
        var initial = new Option<string?>("--initial") { Description = "The prompt before its training, for the drift and for labels that stayed in their row. Without it the run folder's, where the prompt lies in one." };
        var labels = new Option<string[]>("--label") { Description = "A label of the task; told is in which rows it shows.", Arity = ArgumentArity.OneOrMore, DefaultValueFactory = _ => [] };
        var compare = new Option<bool>("--compare") { Description = "Compares the prompts: a map of cosines and their principal axes." };
        var html = new Option<string?>("--html") { Description = "File for a page with tables and figures." };
        var asJson = new Option<bool>("--json") { Description = "One JSON object instead of text." };
        var command = new Command("inspect", "Read tuned prompts through the model's vocabulary: nearest pieces, clusters, labels, redundancy.") { paths };
        foreach (Option option in (Option[])[model, topK, initial, labels, compare, html, asJson])
            command.Options.Add(option);
        command.WithExamples(
            "iptnative inspect runs/quickstart/best/words-second-seed42 --model models/t5-gym-tiny",
            "iptnative inspect runs/boolq/best --model google/t5-base-lm-adapt --label True --label False --html boolq.html",
            "iptnative inspect runs/quickstart/best --model models/t5-gym-tiny --compare --html prompts.html");
        command.SetRun((parsed, cancel) =>
        {
            if (parsed.GetValue(topK) is < 2 or > 1000)
                throw new UsageException($"--top-k is {parsed.GetValue(topK)}, expected 2 to 1000.");
            PromptEntry[] entries = [.. PromptFolder.Expand(parsed.GetValue(paths)!)];
            if (parsed.GetValue(compare) && entries.Length < 2)
                throw new UsageException("--compare: found one prompt, expected two or more.");
            if (parsed.GetValue(initial) is not null && entries.Length > 1)
                throw new UsageException($"--initial: found {entries.Length} prompts, expected the one that began there.");
            KeyValuePair<string, Prompt>[] prompts = [.. entries.Select(e => KeyValuePair.Create(e.Name, PromptFile.Read(e.Path)))];
            Prompt? start = parsed.GetValue(initial) is { } path ? PromptFile.Read(path) : null;

            using Checkpoint checkpoint = Checkpoint.Open(parsed.GetValue(model)!);
            for (int i = 0; i < prompts.Length; i++)
                prompts[i].Value.RequireModel(checkpoint.Config, entries[i].Path);
            T5Tokenizer tokenizer = T5Tokenizer.Load(Checkpoint.FolderOf(parsed.GetValue(model)!), checkpoint.Config.VocabSize);
            var inspections = new List<KeyValuePair<string, PromptInspection>>();
            for (int i = 0; i < prompts.Length; i++)
            {
                cancel.ThrowIfCancellationRequested();
                Prompt? began = start ?? (RunFolder.InitialOf(entries[i].Path) is { } own ? PromptFile.Read(own) : null);
                inspections.Add(KeyValuePair.Create(prompts[i].Key, PromptInspection.Of(checkpoint, tokenizer, prompts[i].Value, new InspectionOptions { TopK = parsed.GetValue(topK), Initial = began, Labels = parsed.GetValue(labels)! })));
            }
            PromptComparison? comparison = parsed.GetValue(compare) ? PromptComparison.Of(prompts) : null;
            if (parsed.GetValue(html) is { } file)
                AtomicFile.Write(file, stream => stream.Write(Encoding.UTF8.GetBytes(InspectionReport.Html(parsed.GetValue(model)!, inspections, comparison))));
            using TextWriter output = StandardOutput.Open();
            if (parsed.GetValue(asJson))
                JsonOutput.WriteObject(output, json => InspectionReport.Write(json, inspections, comparison), indented: true);
            else
                WriteText(output, inspections, comparison);
            return ExitCode.Done;
        });
        return command;
    }

    private static void WriteText(TextWriter output, IReadOnlyList<KeyValuePair<string, PromptInspection>> inspections, PromptComparison? comparison)
    {
        foreach ((string name, PromptInspection found) in inspections)
        {
            output.WriteLine($"{name}: {found.Rows.Count} rows");
            foreach (InspectedRow row in found.Rows)
            {
                string drift = row.Distance is { } distance ? $"  drift {distance:0.000}" : "";
                output.WriteLine($"{row.Index,4}  length {row.Norm,7:0.000}{drift}  {string.Join("  ", row.Neighbours.Select(n => $"{n.Piece} {n.Cosine:0.00}"))}");
            }
            output.WriteLine($"mean length {found.Rows.Average(r => r.Norm):0.000}, of a piece {found.VocabularyNorm:0.000}");
            output.WriteLine($"neighbours' tightness {found.Tightness:0.000}, of random vectors {found.RandomTightness:0.000} ± {found.RandomDeviation:0.000} ({Signed.Text(found.Excess, 1)} deviations)");
            output.WriteLine($"{found.SharedNearest:P0} of the rows share their nearest piece with another; {found.DistinctNeighbours} different pieces among all neighbours");
            foreach (LabelPersistence label in found.Labels)
            {
                string kept = label.InitialRow is { } row ? $"; initialised in row {row}, {(label.Kept == true ? "still there" : "gone from there")}" : "";
                output.WriteLine($"label {label.Label}: {(label.Rows.Count == 0 ? "in no row" : $"in rows {string.Join(", ", label.Rows)}")}{kept}");
            }
        }
        if (comparison is null)
            return;
        int width = comparison.Names.Max(n => n.Length) + 2;
        output.WriteLine("cosines (NaN where lengths differ), columns in the order of the lines");
        for (int i = 0; i < comparison.Names.Count; i++)
            output.WriteLine($"{comparison.Names[i].PadRight(width)}{string.Concat(comparison.Cosines[i].Select(c => $"{c,7:0.00}"))}");
    }
}
