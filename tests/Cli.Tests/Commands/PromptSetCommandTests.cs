using System.Text.Json;
using IptNative.Tuning.Prompts;
using Xunit;

namespace IptNative.Cli.Tests.Commands;

/// <summary>Commands over several prompts: evaluate --ensemble, inspect, transfer, sweep.</summary>
public sealed class PromptSetCommandTests : IDisposable
{
    private const int DModel = 128;

    private readonly string _folder = Directory.CreateTempSubdirectory("iptnative-").FullName;

    public PromptSetCommandTests()
    {
        for (int seed = 1; seed <= 3; seed++)
        {
            var random = new Random(seed);
            PeftPrompt.Write(Path.Combine(_folder, $"words-first-seed{seed}"), new Prompt([.. Enumerable.Range(0, 2 * DModel).Select(_ => (float)(random.NextDouble() - 0.5) * 0.3f)], 2, DModel));
        }
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static readonly string[] Task = ["--task", "words-first", "--data", "examples/gym", "--task-prefix", "--limit", "20", "--threads", "1"];

    [Fact]
    public void AFolderOfPromptsVotes()
    {
        string predictions = Path.Combine(_folder, "answers.tsv");
        CliRun run = CliProgram.Run(["evaluate", "--model", CliProgram.Model, "--prompt", _folder, "--ensemble", "--predictions", predictions, .. Task]).Returned(0);
        Assert.Contains("ensemble of 3", run.Output, StringComparison.Ordinal);
        Assert.Contains("best single: words-first-seed", run.Output, StringComparison.Ordinal);
        Assert.Equal(1 + (4 * 20), File.ReadAllLines(predictions).Length);
        using var json = JsonDocument.Parse(CliProgram.Run(["evaluate", "--model", CliProgram.Model, "--prompt", _folder, "--ensemble-cost", "--json", .. Task]).Returned(0).Output);
        JsonElement ensemble = json.RootElement.GetProperty("ensemble");
        Assert.Equal(3, ensemble.GetProperty("prompts").GetInt32());
        Assert.True(ensemble.GetProperty("seconds_per_example_one_after_another").GetDouble() > 0);
        CliProgram.Run(["evaluate", "--model", CliProgram.Model, "--prompt", Path.Combine(_folder, "words-first-seed1"), "--ensemble", .. Task]).Returned(2).Says("--ensemble: found 1 prompts, expected two or more");
    }

    [Fact]
    public void PromptsAreListedAndConverted()
    {
        string all = Path.Combine(_folder, "..", $"{Path.GetFileName(_folder)}-all.safetensors"), other = _folder + "-other";
        try
        {
            CliRun run = CliProgram.Run("prompts", _folder, "--out", all).Returned(0);
            Assert.Equal(["prompt", "words-first-seed1", "words-first-seed2", "words-first-seed3", "written"], run.Lines.Select(l => l.Split(' ')[0]));
            Assert.Matches(@"words-first-seed1 +2 +128 +0\.0[0-9]{2}  -", run.Lines[1]);
            Assert.Equal(run.Lines[..4], CliProgram.Run("prompts", all).Returned(0).Lines);

            Directory.CreateDirectory(other);
            string npy = Path.Combine(other, "two.npy");
            CliProgram.Run("prompts", $"{all}#words-first-seed2", "--out", npy).Returned(0);
            CliProgram.Run("prompts", all, "--out", Path.Combine(other, "peft")).Returned(0);
            float[] two = PromptFile.Read(Path.Combine(_folder, "words-first-seed2")).Values;
            Assert.Equal(two, PromptFile.Read(npy).Values);
            Assert.Equal(two, PromptFile.Read(Path.Combine(other, "peft", "words-first-seed2")).Values);
            Assert.StartsWith("two ", CliProgram.Run("prompts", npy).Returned(0).Lines[1], StringComparison.Ordinal);

            // A name with a point is a folder's whole name; a template goes where it can be kept, and is refused where it cannot.
            string dotted = Path.Combine(other, "rate-0.3");
            PeftPrompt.Write(dotted, new Prompt(two, 2, DModel) { Template = PromptTemplate.Parse("[P:2] {text} It was [slot]") });
            Assert.Matches(@"^rate-0\.3 .*\[P:2\] \{text\} It was \[slot\]$", CliProgram.Run("prompts", dotted, "--out", Path.Combine(other, "one.safetensors")).Returned(0).Lines[1]);
            Assert.Equal("[P:2] {text} It was [slot]", PromptFile.Read(Path.Combine(other, "one.safetensors") + "#rate-0.3").Template?.Source);
            CliProgram.Run("prompts", dotted, "--out", npy).Returned(2).Says("'rate-0.3' has the template \"[P:2] {text} It was [slot]\", which a .npy file cannot hold. Take .safetensors, or a folder.");

            // PEFT's adapter of several tasks becomes an adapter for each.
            string multitask = Path.Combine(CliProgram.Root, "tests", "Goldens", "peft", "multitask"), tasks = Path.Combine(other, "tasks");
            Assert.Equal(["multitask-0", "multitask-1", "multitask-2"], CliProgram.Run("prompts", multitask, "--out", tasks).Returned(0).Lines[1..4].Select(l => l.Split(' ')[0]));
            Assert.Equal(PromptFile.Read(multitask + "#1").Values, PromptFile.Read(Path.Combine(tasks, "multitask-1")).Values);

            CliProgram.Run("prompts", all, "--out", npy).Returned(2).Says("--out: found 3 prompts for ").Says("expected one: a .npy file holds one array. Take .safetensors, or a folder.");
            CliProgram.Run("prompts", all, "--out", Path.Combine(other, "x.txt")).Returned(2).Says("expected NAME.safetensors, NAME.npy, or a folder's name without extension.");
            CliProgram.Run("prompts", Path.Combine(_folder, "words-first-seed2"), Path.Combine(other, "peft", "words-first-seed2"), "--out", all).Returned(2).Says("--out: two prompts are called 'words-first-seed2', expected different names. Rename one of them.");
            CliProgram.Run("prompts", $"{all}#words-first-seed4").Returned(1).Says("the nearest name is 'words-first-seed");
            CliProgram.Run("prompts", Path.Combine(other, "none")).Returned(1).Says("reading a prompt; there is no such file or folder");
        }
        finally
        {
            File.Delete(all);
            if (Directory.Exists(other))
                Directory.Delete(other, recursive: true);
        }
    }

    [Fact]
    public void PromptsAreInspectedAndCompared()
    {
        string html = Path.Combine(_folder, "page.html");
        CliRun run = CliProgram.Run("inspect", _folder, "--model", CliProgram.Model, "--compare", "--label", "the", "--html", html).Returned(0);
        Assert.Contains("words-first-seed2: 2 rows", run.Output, StringComparison.Ordinal);
        Assert.Contains("of random vectors", run.Output, StringComparison.Ordinal);
        Assert.Contains("Best matching rows.", File.ReadAllText(html), StringComparison.Ordinal);
        using var json = JsonDocument.Parse(CliProgram.Run("inspect", Path.Combine(_folder, "words-first-seed1"), "--model", CliProgram.Model, "--json", "--top-k", "3").Returned(0).Output);
        Assert.Equal(3, json.RootElement.GetProperty("prompts")[0].GetProperty("rows")[1].GetProperty("neighbours").GetArrayLength());
        CliProgram.Run("inspect", Path.Combine(_folder, "words-first-seed1"), "--model", CliProgram.Model, "--compare").Returned(2).Says("--compare: found one prompt, expected two or more");
        CliProgram.Run("inspect", _folder, "--model", CliProgram.Model, "--top-k", "1").Returned(2).Says("--top-k is 1, expected 2 to 1000");
        CliProgram.Run("inspect", _folder, "--model", CliProgram.Fixture).Returned(1).Says("A prompt fits only the checkpoint that it was trained on");
    }

    [Fact]
    public void SeedsOfATaskAreOneLineOfTheTransferMatrix()
    {
        string html = Path.Combine(_folder, "transfer.html");
        CliRun run = CliProgram.Run("transfer", "--model", CliProgram.Model, "--prompts", _folder, "--data", "examples/gym", "--target", "words-first", "--target", "clinc150-domain", "--task-prefix", "--limit", "10", "--threads", "1", "--html", html).Returned(0);
        Assert.Equal(["prompt of", "words-first", "none"], run.Lines.Select(l => l.StartsWith("prompt of", StringComparison.Ordinal) ? "prompt of" : l.Split(' ')[0]));
        Assert.Contains(" ± ", run.Lines[1], StringComparison.Ordinal);
        Assert.Contains("Share of the target", File.ReadAllText(html), StringComparison.Ordinal);
        string[] one = ["transfer", "--model", CliProgram.Model, "--prompts", $"other={Path.Combine(_folder, "words-first-seed1")}", "--data", "examples/gym", "--target", "clinc150-domain", "--limit", "4", "--threads", "1"];
        using var json = JsonDocument.Parse(CliProgram.Run([.. one, "--json", "--map", "clinc150-domain:money=banking"]).Returned(0).Output);
        Assert.Equal(["other", "none"], json.RootElement.GetProperty("scores").EnumerateArray().Select(s => s.GetProperty("source").GetString()));
        CliProgram.Run([.. one, "--casting", "bioasq=mrqa"]).Returned(2).Says("--casting bioasq=mrqa: expected TARGET=TASK with one of the targets clinc150-domain");
        CliProgram.Run([.. one, "--casting", "clinc150-domain=mrka"]).Returned(2).Says("'mrka' is no known task, expected one of ");
        CliProgram.Run([.. one, "--map", "nonsense"]).Returned(2).Says("expected TARGET:ANSWER=LABEL");
        CliProgram.Run([.. one, "--map", "sst2:a=b"]).Returned(2).Says("found no target 'sst2', expected one of clinc150-domain");
        CliProgram.Run([.. one, "--map", "clinc150-domain:a=no such label"]).Returned(2).Says("'no such label' is no label of clinc150-domain");
    }

    [Fact]
    public void ASweepInTwoShardsTrainsEveryPointOnce()
    {
        string file = Path.Combine(_folder, "sweep.json"), output = Path.Combine(_folder, "out");
        File.WriteAllText(Path.Combine(_folder, "run.json"), $$"""
            { "model": "{{CliProgram.Model.Replace('\\', '/')}}", "tasks": [{ "name": "words-first", "data": "{{CliProgram.Root.Replace('\\', '/')}}/examples/gym" }],
              "training": { "steps": 2, "batch_size": 2 }, "threads": 1 }
            """);
        File.WriteAllText(file, """{ "run": "run.json", "grid": { "prompt.length": [1, 3] } }""");
        Assert.Equal(["length-1", "length-3"], CliProgram.Run("sweep", file, "--list").Returned(0).Lines);
        Assert.Contains("1 of 2 points", CliProgram.Run("sweep", file, "--output", output, "--shard", "2/2").Returned(0).Output, StringComparison.Ordinal);
        CliRun second = CliProgram.Run("sweep", file, "--output", output, "--shard", "1/2").Returned(0);
        Assert.Contains("2 of 2 points", second.Output, StringComparison.Ordinal);
        CliRun again = CliProgram.Run("sweep", file, "--output", output).Returned(0);
        Assert.Contains("length-1 is done", again.Error, StringComparison.Ordinal);
        Assert.Contains("length-3 is done", again.Error, StringComparison.Ordinal);
        Assert.Equal(second.Output, again.Output);
        Assert.Equal(3, File.ReadAllLines(Path.Combine(output, "sweep.csv")).Length);
        Assert.Equal(second.Output, CliProgram.Run("sweep", file, "--output", output, "--table").Returned(0).Output);
        Assert.Contains("#SBATCH --array=1-2", CliProgram.Run("sweep", file, "--output", Path.Combine(_folder, "new"), "--slurm", "--dry-run").Returned(0).Output, StringComparison.Ordinal);
        CliProgram.Run("sweep", file, "--slurm", "--shards", "3").Returned(2).Says("--shards is 3, expected 1 to 2: the sweep has so many points.");
        CliProgram.Run("sweep", file, "--wait").Returned(2).Says("are for --slurm, which is missing");
        CliProgram.Run("sweep", file, "--slurm", "--shard", "1/2").Returned(2).Says("--slurm and --shard: found both, expected one");
        CliProgram.Run("sweep", file, "--shard", "3/2").Returned(2).Says("shard 3/2: expected i from 1 to n = 2");
        CliProgram.Run("sweep", Path.Combine(_folder, "missing.json")).Returned(1).Says("reading a sweep; there is no such file");
    }
}
