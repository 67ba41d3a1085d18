using System.Xml.Linq;
using IptNative.Tuning.Sweeps;
using Xunit;

namespace IptNative.Tuning.Tests.Sweeps;

/// <summary>Options that vary one at a time, and the figures of that.</summary>
public sealed class AblationTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("iptnative-ablation-").FullName;

    public AblationTests() => File.WriteAllText(At("run.json"), $$"""
        { "model": "{{TinyModel.Folder.Replace('\\', '/')}}", "prompt": { "length": 20, "init": "vocab" },
          "tasks": [{ "name": "words-first", "data": "{{TinyModel.Gym.Replace('\\', '/')}}" }, { "name": "words-second", "data": "{{TinyModel.Gym.Replace('\\', '/')}}" }] }
        """);

    private string At(string name) => Path.Combine(_folder, name);

    private SweepPlan Plan(string sweep)
    {
        File.WriteAllText(At("s.json"), sweep);
        return SweepPlan.Load(At("s.json"), At("out"), []);
    }

    private static SweepTable Run(SweepPlan plan) => SweepRun.Execute(plan, SweepShard.Whole, p =>
    {
        double score = 0.1 + (p.Index * 0.1);
        Directory.CreateDirectory(p.Config.Output);
        File.WriteAllText(Path.Combine(p.Config.Output, "result.json"), FormattableString.Invariant($$"""
            { "summary": [ { "task": "a", "split": "test", "mean": {{score}}, "std": 0, "runs": 2 }, { "task": "b", "split": "test", "mean": 0.5, "std": 0, "runs": 2 } ],
              "runs": [ { "task": "a", "seed": 1, "test": { "score": {{score}} } }, { "task": "b", "seed": 1, "test": { "score": 0.4 } },
                        { "task": "a", "seed": 2, "test": { "score": {{score}} } }, { "task": "b", "seed": 2, "test": { "score": 0.6 } } ] }
            """));
    }, _ => { }, CancellationToken.None);

    [Fact]
    public void OptionsVaryOneAtATimeAndTheUsualPointIsOne()
    {
        SweepPlan plan = Plan("""{ "run": "run.json", "ablate": { "prompt.length": [1, 20, 100], "prompt.init": ["uniform", "vocab"], "tasks.*.sentinel": [false, true], "optimizer.learning_rate": [1.0] } }""");
        Assert.Equal(["length-1", "base", "length-100", "init-uniform", "sentinel-true", "learning_rate-1.0"], plan.Points.Select(p => p.Name));
        Assert.Equal(["20", "vocab", "false", "0.3"], plan.Usual);
        Assert.Equal(["1", "vocab", "false", "0.3"], plan.Points[0].Values);
        Assert.Equal(["20", "vocab", "true", "0.3"], plan.Points[4].Values);
        Assert.All(plan.Points[4].Config.Tasks, t => Assert.True(t.Sentinel));
        Assert.Equal([.. plan.Points.Select(p => Path.Combine(At("out"), "points", p.Name))], plan.Points.Select(p => p.Config.Output));
    }

    [Fact]
    public void EveryAblationIsDoneForEveryCombinationOfTheGrid()
    {
        SweepPlan plan = Plan("""{ "run": "run.json", "grid": { "training.batch_size": [8, 16] }, "ablate": { "prompt.length": [1, 20], "prompt.init": ["uniform"] } }""");
        Assert.Equal(["batch_size-8_length-1", "batch_size-8", "batch_size-8_init-uniform", "batch_size-16_length-1", "batch_size-16", "batch_size-16_init-uniform"], plan.Points.Select(p => p.Name));
        Assert.Equal("training.batch_size", plan.X);
    }

    [Fact]
    public void ThePageHasAPanelPerOptionAndTheMeanOverTasksFirst()
    {
        SweepPlan plan = Plan("""{ "run": "run.json", "ablate": { "prompt.length": [1, 20, 100], "prompt.init": ["uniform", "vocab"] } }""");
        SweepTable table = Run(plan);
        // Seeds of a benchmark: the deviation is that of the seeds' means, 0.05 sqrt 2 for 0.25 and 0.35.
        SweepScore mean = table.Scores.First(s => s.IsMean);
        Assert.Equal(("mean of 2 tasks", 2), (mean.Task, mean.Runs));
        Assert.Equal(0.3, mean.Mean, 1e-12); // sums of a few doubles
        Assert.Equal(0.05 * Math.Sqrt(2), mean.Deviation, 1e-12);
        string page = File.ReadAllText(At("out/sweep.html"));
        Assert.Equal(["mean of 2 tasks", "a", "b", "Table"], Headings(page));
        XElement[] figures = Figures(page);
        Assert.Equal(["prompt.length", "prompt.init"], figures.Take(2).Select(f => ((string)f.Attribute("aria-label")!).Split(" by ")[1]));
        // Numbers are joined by a line; words are not, and stand in the order of the file.
        Assert.Single(figures[0].Elements("path"), p => (string?)p.Attribute("class") == "s0");
        Assert.DoesNotContain(figures[1].Elements("path"), p => (string?)p.Attribute("class") == "s0");
        Assert.Equal(["uniform", "vocab"], figures[1].Elements("text").Where(t => (string?)t.Attribute("text-anchor") == "middle" && (string?)t.Attribute("class") == "tick").Select(t => t.Value));
        Assert.Equal(3, figures[0].Descendants("title").Count(t => t.Value.Contains("prompt.length", StringComparison.Ordinal) && t.Value.Contains('±')));
    }

    [Fact]
    public void OverModelsOfSeveralSizesTheAxisIsTheirParameters()
    {
        string other = Path.Combine(TinyModel.Root, "tests", "Goldens", "t5v11").Replace('\\', '/');
        SweepPlan plan = Plan($$"""{ "run": "run.json", "grid": { "model": ["{{TinyModel.Folder.Replace('\\', '/')}}", "{{other}}"] }, "ablate": { "prompt.length": [1, 20] } }""");
        Assert.Equal("model", plan.X);
        Assert.Equal(["t5-gym-tiny", "t5v11"], plan.Points.Select(p => p.Values[0]).Distinct());
        Run(plan);
        XElement figure = Figures(File.ReadAllText(At("out/sweep.html")))[0];
        Assert.Contains(figure.Elements("text"), t => t.Value == "parameters of the model");
        Assert.Equal(2, figure.Elements("path").Count(p => ((string?)p.Attribute("class"))!.StartsWith('s'))); // every path has a class
    }

    [Theory]
    [InlineData("""{ "run": "run.json", "ablate": {} }""", "'ablate' is {}, expected an object")]
    [InlineData("""{ "run": "run.json", "ablate": { "prompt.length": [1, 0] } }""", "point length-0: ")]
    [InlineData("""{ "run": "run.json", "grid": { "prompt.length": [1] }, "ablate": { "prompt.length": [2] } }""", "'prompt.length' is in 'grid' and in 'ablate'")]
    public void BadFilesAreNamed(string sweep, string message) =>
        Assert.Contains(message, Assert.Throws<InvalidDataException>(() => Plan(sweep)).Message, StringComparison.Ordinal);

    [Fact]
    public void TheExampleIsInOrder()
    {
        SweepPlan plan = SweepPlan.Load(Path.Combine(TinyModel.Root, "examples", "sweep-lester.json"), At("out"), []);
        Assert.Equal(11, plan.Points.Count);
        Assert.Equal([1, 5, 20, 100, 150], plan.Points.Select(p => p.Config.Prompt.Length).Distinct().Order());
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static string[] Headings(string page) => [.. page.Split("<h2>").Skip(1).Select(p => p[..p.IndexOf('<', StringComparison.Ordinal)])];

    private static XElement[] Figures(string page) => [.. page.Split("<svg ").Skip(1).Select(p => XElement.Parse("<svg " + p[..(p.IndexOf("</svg>", StringComparison.Ordinal) + 6)]))];
}
