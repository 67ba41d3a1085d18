using IptNative.Tasks.Data;
using IptNative.Tuning.Experiments;
using Xunit;

namespace IptNative.Tuning.Tests.Experiments;

public sealed class ExperimentConfigTests
{
    private const string Ends = "\"model\": \"m\", \"data\": { \"folder\": \"g\" }, \"split\": { \"train\": [\"a\", \"b\"] }";

    [Theory]
    [InlineData("{ \"modle\": \"m\" }", "'modle' is unknown; the nearest is 'model'")]
    [InlineData("{ " + Ends + ", \"msf\": { \"alfa\": 1 } }", "'msf.alfa' is unknown; the nearest is 'alpha'")]
    [InlineData("{ " + Ends + ", \"d_i\": [0] }", "d_i is the number 0, expected a whole number 1 or more")]
    [InlineData("{ " + Ends + ", \"d_i\": [5, 5] }", "d_i holds 5 2 times, expected each number once")]
    [InlineData("{ " + Ends + ", \"seeds\": [] }", "seeds is empty, expected at least one number")]
    [InlineData("{ \"data\": { \"folder\": \"g\" } }", "model is missing, expected a package folder")]
    [InlineData("{ \"model\": \"m\" }", "data.folder is missing")]
    [InlineData("{ \"model\": \"m\", \"data\": { \"folder\": \"g\" }, \"split\": { \"train\": [\"a\", \"b\"], \"test\": [\"b\"] } }", "split.train and split.test both hold b, expected each task in one of them")]
    [InlineData("{ \"model\": \"m\", \"data\": { \"folder\": \"g\" }, \"split\": { \"name\": \"cls\", \"test\": [\"b\"] } }", "split.name is \"cls\" and split has lists of tasks")]
    [InlineData("{ " + Ends + ", \"msf\": { \"reconstruction_loss\": false, \"language_model_loss\": false } }", "which leaves no loss")]
    [InlineData("{ " + Ends + ", \"ist\": { \"training\": { \"runs\": 3 } } }", "ist.training has a seed or runs, expected neither")]
    [InlineData("{ " + Ends + ", \"prompt_tuning\": { \"training\": { \"steps\": 10 } } }", "prompt_tuning.training.eval_every is 1000 of 10 steps")]
    [InlineData("{ " + Ends + ", \"ablations\": { \"d_i\": 3 } }", "ablations.d_i is 3, expected one of d_i: 5")]
    [InlineData("{ " + Ends + ", \"ablations\": { \"train_tasks\": [101] } }", "ablations.train_tasks holds 101, expected percentages from 1 to 100")]
    [InlineData("{ " + Ends + ", \"ablations\": { \"shots_draw\": 100 } }", "ablations.shots_draw is 100, the same as data.draw")]
    [InlineData("{ \"model\": \"m\", \"data\": { \"folder\": \"g\", \"draw\": 21 }, \"split\": { \"train\": [\"a\", \"b\"] } }", "data.other_draw is 21, the same as data.draw")]
    public void WrongOptionsAreNamed(string json, string expected)
    {
        InvalidDataException e = Assert.Throws<InvalidDataException>(() => ExperimentConfig.Parse(json, "e.json", "/"));
        Assert.Contains(expected, e.Message, StringComparison.Ordinal);
        Assert.Contains("e.json", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void TheCanonicalFormReadsBackAsItself()
    {
        using var gym = new FakeGym("canonical");
        ExperimentConfig config = gym.Config("\"baselines\": { \"pca\": true, \"d_i\": [2] }, \"ablations\": { \"train_tasks\": [50] }");
        Assert.Equal(config.ToJson(), ExperimentConfig.Parse(config.ToJson(), "experiment.json", "/").ToJson());
        Assert.Equal([SubspaceMethod.Pca], config.Baselines.Subspaces);
        Assert.Equal(Path.Combine(gym.Folder, "model"), config.Model);
        Assert.Contains(ExperimentConfig.Describe(), o => o.Name == "msf.alpha");
    }

    [Fact]
    public void OverridesWinOverTheFile()
    {
        using var gym = new FakeGym("overrides");
        Assert.Equal([7], gym.Config("", "d_i=[7]").DI);
        Assert.Equal(IstSearch.CmaEs, gym.Config("", "ist.search=cma_es").Ist.Search);
    }

    /// <summary>The promises of the shipped examples: see the comments in them.</summary>
    [Fact]
    public void IptMiniIsWhatItSays()
    {
        ExperimentConfig config = ExperimentConfig.Load(Path.Combine(TinyModel.Root, "examples", "ipt-mini.json"), []);
        ExperimentData data = ExperimentData.Open(config.Data);
        ExperimentPlan plan = ExperimentPlan.Build(config, data, ExperimentModel.Read(config.Model));
        string[] tasks = [.. plan.Split.Train, .. plan.Split.Test];
        Assert.True(tasks.Length >= 24, $"{tasks.Length} tasks");
        Assert.True(plan.Split.Test.Count >= 6);
        Assert.True(tasks.Count(t => t.StartsWith("blimp", StringComparison.Ordinal)) <= 2);
        Assert.Contains(tasks, t => data.Task(t).IsClassification);
        Assert.Contains(tasks, t => !data.Task(t).IsClassification);
        Assert.Empty(plan.Notes);
        string unseen = File.ReadAllText(Path.Combine(config.Model, "README.md")).Split("never seen in pre-training:")[1].Split('\n')[0];
        Assert.All(config.Groups[0].Tasks, t => Assert.Contains(t, unseen, StringComparison.Ordinal));
        Assert.True(config.Groups[0].Tasks.Intersect(plan.Split.Test).Count() >= 2);
        Assert.Equal([1, 2, 5, 10], config.DI);
        Assert.Equal(3, config.Seeds.Count);
        foreach (string task in tasks)
        {
            CrossFitTask examples = data.Load(new TaskSample(task, "13"));
            Assert.Equal(100, examples.Test.Count);
            Assert.Null(data.WhyMissing(task, config.Data.OtherDraw));
            Assert.NotNull(data.Task(task).Licence);
        }
    }

    [Theory]
    [InlineData("ipt-smoke", 5)]
    [InlineData("ipt-ablations", 15)]
    [InlineData("ipt-optimisers", 0)]
    public void TheOtherExamplesPlan(string name, double minutes)
    {
        ExperimentConfig config = ExperimentConfig.Load(Path.Combine(TinyModel.Root, "examples", $"{name}.json"), []);
        ExperimentPlan plan = ExperimentPlan.Build(config, ExperimentData.Open(config.Data), ExperimentModel.Read(config.Model));
        Assert.Empty(plan.Notes);
        Assert.Equal(minutes, config.BudgetMinutes);
        if (name != "ipt-ablations") return;
        Assert.Equal(4, config.Baselines.Subspaces.Count);
        Assert.Equal(["2K shots", "40 % of tasks", "60 % of tasks", "80 % of tasks", "prompt length 5", "stability"], plan.Uses.Select(u => u.Setting).Where(s => s.Length > 0).Distinct().Order(StringComparer.Ordinal));
    }
}
