using IptNative.Tuning.Sweeps;
using Xunit;

namespace IptNative.Tuning.Tests.Sweeps;

public sealed class SweepTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("iptnative-sweep-").FullName;

    public SweepTests() => File.WriteAllText(At("run.json"), $$"""
        { "model": "{{TinyModel.Folder.Replace('\\', '/')}}", "tasks": [{ "name": "words-first", "data": "{{TinyModel.Gym.Replace('\\', '/')}}" }], "training": { "steps": 3 } }
        """);

    private string At(string name) => Path.Combine(_folder, name);

    private SweepPlan Plan(string sweep, params string[] overrides)
    {
        File.WriteAllText(At("s.json"), sweep);
        return SweepPlan.Load(At("s.json"), At("out"), overrides);
    }

    // What a training leaves behind, as far as a sweep reads it.
    private static void Train(SweepPoint point, double score)
    {
        Directory.CreateDirectory(point.Config.Output);
        File.WriteAllText(Path.Combine(point.Config.Output, "result.json"), FormattableString.Invariant($$"""
            { "summary": [ { "task": "words-first", "split": "dev", "mean": 0.1, "std": null, "runs": 1 }, { "task": "words-first", "split": "test", "mean": {{score}}, "std": 0.05, "runs": 3 } ] }
            """));
    }

    [Fact]
    public void AGridIsEveryCombinationWithItsOwnFolder()
    {
        SweepPlan plan = Plan("""{ "run": "run.json", /* twice two */ "grid": { "prompt.init": ["vocab", "uniform"], "prompt.length": [1, 20], }, "set": { "training.batch_size": 4 } }""", "training.steps=5");
        Assert.Equal(["init-vocab_length-1", "init-vocab_length-20", "init-uniform_length-1", "init-uniform_length-20"], plan.Points.Select(p => p.Name));
        Assert.Equal([1, 20, 1, 20], plan.Points.Select(p => p.Config.Prompt.Length));
        Assert.All(plan.Points, p => Assert.Equal((5, 4), ((int)p.Config.Training.Steps, p.Config.Training.BatchSize)));
        Assert.All(plan.Points, p => Assert.Equal(Path.Combine(At("out"), "points", p.Name), p.Config.Output));
        Assert.Equal("prompt.length", plan.X);
    }

    [Fact]
    public void ShardsShareTheWorkAndTheTableAndNothingIsDoneTwice()
    {
        SweepPlan plan = Plan("""{ "run": "run.json", "grid": { "prompt.length": [1, 2, 3, 4, 5], "prompt.init": ["vocab", "uniform"] } }""");
        var trained = new List<string>();
        foreach (string shard in (string[])["2/3", "1/3", "3/3", "1/3"])
        {
            SweepTable table = SweepRun.Execute(plan, SweepShard.Parse(shard), p => { trained.Add(p.Name); Train(p, p.Index / 10.0); }, _ => { }, CancellationToken.None);
            Assert.Equal(trained.Count, table.Done);
        }
        Assert.Equal(plan.Points.Select(p => p.Name).Order(), trained.Order());

        string whole = File.ReadAllText(At("out/sweep.csv"));
        Assert.StartsWith("prompt.length,prompt.init,task,split,mean,standard_deviation,runs,point\n1,vocab,words-first,test,0,0.05,3,length-1_init-vocab\n1,uniform,words-first,test,0.1,", whole, StringComparison.Ordinal);
        string page = File.ReadAllText(At("out/sweep.html"));
        Assert.Contains("10 of 10 points are done", page, StringComparison.Ordinal);
        Assert.Contains("<svg", page, StringComparison.Ordinal);

        // The same sweep in one piece has the same table.
        SweepPlan again = SweepPlan.Load(At("s.json"), At("other"), []);
        SweepRun.Execute(again, SweepShard.Whole, p => Train(p, p.Index / 10.0), _ => { }, CancellationToken.None);
        Assert.Equal(whole, File.ReadAllText(At("other/sweep.csv")));
    }

    [Fact]
    public void AKilledSweepGoesOnAndOtherOptionsAreRefused()
    {
        const string sweep = """{ "run": "run.json", "grid": { "prompt.length": [1, 2, 3] } }""";
        SweepPlan plan = Plan(sweep);
        Assert.Throws<OperationCanceledException>(() => SweepRun.Execute(plan, SweepShard.Whole, p =>
        {
            // Killed in the middle of the second: a result without the mark that it is done.
            Train(p, 0.5);
            if (p.Index == 1) throw new OperationCanceledException();
        }, _ => { }, CancellationToken.None));
        var trained = new List<int>();
        SweepRun.Execute(plan, SweepShard.Whole, p => { trained.Add(p.Index); Train(p, 0.5); }, _ => { }, CancellationToken.None);
        Assert.Equal([1, 2], trained);

        SweepPlan changed = Plan(sweep, "training.steps=99");
        var e = Assert.Throws<InvalidDataException>(() => SweepRun.Execute(changed, SweepShard.Whole, _ => Assert.Fail("nothing is trained"), _ => { }, CancellationToken.None));
        Assert.Contains("was trained with other options than the sweep has now", e.Message, StringComparison.Ordinal);
        // Other threads are no other options.
        SweepRun.Execute(Plan(sweep, "threads=1"), SweepShard.Whole, _ => Assert.Fail("nothing is trained"), _ => { }, CancellationToken.None);
    }

    [Theory]
    [InlineData("""[]""", "found a Array, expected an object")]
    [InlineData("""{ "grid": { "prompt.length": [1] } }""", "'run' is missing")]
    [InlineData("""{ "run": "run.json" }""", "'grid' is missing")]
    [InlineData("""{ "run": "run.json", "grid": {} }""", "'grid' is {}, expected an object")]
    [InlineData("""{ "run": "run.json", "grid": { "prompt.length": [] } }""", "'grid.prompt.length' is [], expected a list")]
    [InlineData("""{ "run": "run.json", "grid": { "prompt.length": [1, 1] } }""", "names a value twice")]
    [InlineData("""{ "run": "run.json", "grid": { "prompt.lenght": [1] } }""", "prompt.lenght")]
    [InlineData("""{ "run": "run.json", "grid": { "prompt.length": [1, 0] } }""", "point length-0: ")]
    [InlineData("""{ "run": "run.json", "grid": { "output": ["a"] } }""", "'output' cannot be an axis")]
    [InlineData("""{ "run": "run.json", "grid": { "prompt.length": [1] }, "x": "prompt.init" }""", "'x' is prompt.init, expected one of the axes: prompt.length")]
    [InlineData("""{ "run": "run.json", "grid": { "prompt.length": [1] }, "seeds": 3 }""", "'seeds' is unknown, expected run, grid, ablate, set, x or output")]
    [InlineData("""{ "run": "run.json", "grid": { "prompt.length": [1] }, "grid": {} }""", "reading a sweep;")]
    public void BadFilesAreNamed(string sweep, string message) =>
        Assert.Contains(message, Assert.Throws<InvalidDataException>(() => Plan(sweep)).Message, StringComparison.Ordinal);

    [Fact]
    public void AnAxisIsNotOverridden() => Assert.Contains("this option is an axis of the sweep",
        Assert.Throws<ArgumentException>(() => Plan("""{ "run": "run.json", "grid": { "prompt.length": [1] } }""", "prompt.length=2")).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData("2", "expected i/n")]
    [InlineData("a/b", "expected i/n")]
    [InlineData("0/3", "expected i from 1 to n = 3")]
    [InlineData("4/3", "expected i from 1 to n = 3")]
    [InlineData("1/0", "n 1 or more")]
    public void BadShardsAreNamed(string text, string message) => Assert.Contains(message, Assert.Throws<ArgumentException>(() => SweepShard.Parse(text)).Message, StringComparison.Ordinal);

    [Fact]
    public void TheExampleIsInOrder()
    {
        SweepPlan plan = SweepPlan.Load(Path.Combine(TinyModel.Root, "examples", "sweep-length.json"), At("out"), []);
        Assert.Equal(12, plan.Points.Count);
        Assert.All(plan.Points, p => Assert.Equal(3, p.Config.Training.Runs));
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);
}
