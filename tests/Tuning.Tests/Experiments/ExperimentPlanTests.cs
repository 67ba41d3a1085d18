using IptNative.Tasks.Data;
using IptNative.Tuning.Experiments;
using Xunit;

namespace IptNative.Tuning.Tests.Experiments;

public sealed class ExperimentPlanTests
{
    [Fact]
    public void InputsStandBeforeTheirDependentsAndBatchesShareOneModel()
    {
        using var gym = new FakeGym("order");
        (ExperimentPlan plan, _) = gym.Plan(gym.Config("\"baselines\": { \"fastfood\": true }"));
        HashSet<string> done = [];
        foreach (JobBatch batch in plan.Batches)
        {
            Assert.InRange(batch.Jobs.Count, 1, 6);
            Assert.All(batch.Jobs, job =>
            {
                Assert.All(job.Inputs, i => Assert.Contains(i.Key, done));
                Assert.Equal((batch.Kind, batch.Jobs[0].PromptLength), (job.Kind, job.PromptLength));
                Assert.Equal(batch.Jobs[0].InputsOf(JobNames.Subspace).FirstOrDefault(), job.Kind == JobKind.Ist ? job.InputsOf(JobNames.Subspace).Single() : batch.Jobs[0].InputsOf(JobNames.Subspace).FirstOrDefault());
            });
            done.UnionWith(batch.Jobs.Select(j => j.Key));
        }
        Assert.Equal(plan.Jobs.Count, done.Count);
        Assert.Equal(plan.Jobs.Count, plan.Jobs.Select(j => j.Hash).Distinct().Count());
        Assert.All(plan.Jobs, j => Assert.True(j.TrainPositions + j.EvaluatePositions > 0 || j.Subspace != SubspaceMethod.Msf, j.Key));
    }

    [Fact]
    public void EveryQuestionIsAskedOfTheRightTasks()
    {
        using var gym = new FakeGym("questions");
        (ExperimentPlan plan, _) = gym.Plan(gym.Config());
        void Asked(Study study, string[] tasks, int each, string draw) =>
            Assert.Equal((study, tasks.Length * each), (study, plan.Uses.Count(u => u.Study == study && u.Setting.Length == 0 && u.Draw == draw && tasks.Contains(u.Task))));
        // Two seeds, two dimensions.
        Asked(Study.PromptTuning, [.. FakeGym.Train, .. FakeGym.Test], 2, "13");
        Asked(Study.PromptTuning, FakeGym.Train, 2, "21");
        Asked(Study.TrainMsf, FakeGym.Train, 2, "13");
        Asked(Study.TestMsf, FakeGym.Test, 2, "13");
        Asked(Study.TrainSame, FakeGym.Train, 4, "13");
        Asked(Study.TrainOther, FakeGym.Train, 4, "21");
        Asked(Study.TestIst, FakeGym.Test, 4, "13");
        Asked(Study.StageTwo, FakeGym.Test, 2, "13");
        Assert.All(plan.Uses.Where(u => u.Study == Study.TrainOther), u => Assert.Equal("21", u.ReferenceDraw));
        Assert.Equal(FakeGym.Train.Length * 2, plan["subspace/msf-d5/13"].Inputs.Count);
        Assert.Equal(JobNames.Init, plan.Jobs.First(j => j.Key.StartsWith("stage_two/", StringComparison.Ordinal)).Inputs.Single().Role);
    }

    [Fact]
    public void ThePapersSplitReportsWhatIsMissing()
    {
        DataSection data = new() { Folder = Path.Combine(TinyModel.Root, "examples", "gym"), Draw = 13 };
        ExperimentSplit split = ExperimentSplit.Resolve(new SplitSection { Name = SplitName.Cls }, ExperimentData.Open(data), 13);
        Assert.Equal(["train 35", "test_cls 8", "test_noncls 76"], split.Parts.Select(p => $"{p.Name} {p.Wanted}"));
        Assert.Equal(["dbpedia_14", "google_wellformed_query"], split.Train);
        Assert.Contains("blimp-anaphor_gender_agreement", split.OutOfType);
        Assert.Contains(split.Parts[0].Missing, m => m is { Key: "ag_news", Value: "not in gym.json" });
        InvalidDataException e = Assert.Throws<InvalidDataException>(() => ExperimentSplit.Resolve(new SplitSection { Name = SplitName.NonCls }, ExperimentData.Open(data), 13));
        Assert.StartsWith("Split non-cls: found 0 training tasks with data, expected at least 2", e.Message, StringComparison.Ordinal);
        Assert.Equal(120, ExperimentSplit.Resolve(new SplitSection { Name = SplitName.Random }, ExperimentData.Open(data), 13).Parts.Sum(p => p.Wanted));
    }

    [Fact]
    public void WhatDoesNotFitIsRefusedByName()
    {
        using var gym = new FakeGym("refused");
        string Refused(ExperimentConfig config) => Assert.Throws<InvalidDataException>(() => gym.Plan(config)).Message;
        Assert.Contains("d_i 33; found a prompt of 4 * d_model 8 = 32 numbers, expected d_i of at most that many", Refused(gym.Config("", "d_i=[33]")), StringComparison.Ordinal);
        Assert.Contains("found 1 training tasks with data, expected at least 2", Refused(gym.Config("", "split.train=[\"colour\"]")), StringComparison.Ordinal);
        Assert.Contains("task \"colur\" cannot be used (not in gym.json); the nearest is 'colour'", Refused(gym.Config("", "split.train=[\"colur\",\"shape\"]")), StringComparison.Ordinal);
        Assert.Contains("task \"colour\" cannot be used (no train file of draw 99)", Refused(gym.Config("", "data.draw=99")), StringComparison.Ordinal);
        Assert.Contains("group \"g\" holds tase, which is not in gym.json; the nearest is 'taste'", Refused(gym.Config("\"groups\": [{ \"name\": \"g\", \"tasks\": [\"tase\"] }]")), StringComparison.Ordinal);
    }

    [Fact]
    public void MissingDrawsAndTooManyComponentsAreSaid()
    {
        using var gym = new FakeGym("notes");
        File.Delete(Path.Combine(gym.Gym, "size", $"size_4_{FakeGym.OtherDraw}_dev.tsv"));
        (ExperimentPlan plan, _) = gym.Plan(gym.Config("\"baselines\": { \"pca\": true, \"d_i\": [6] }"));
        Assert.Equal(["unseen-data challenge: size left out (no dev file of draw 21).", "PCA subspace at d_I 6 left out: 6 training prompts have 5 principal components."], plan.Notes);
        Assert.DoesNotContain(plan.Uses, u => u.Study == Study.TrainOther && u.Task == "size");
    }

    [Fact]
    public void TwoDrawsGiveTheUnionWithDisjointDev()
    {
        using var gym = new FakeGym("union");
        string at = Path.Combine(gym.Gym, "taste", "taste_4_");
        // One training line of the third draw is a dev line of the first, another is in both training files.
        string dev = File.ReadAllLines($"{at}13_dev.tsv")[0], train = File.ReadAllLines($"{at}13_train.tsv")[0];
        File.AppendAllText($"{at}42_train.tsv", dev + "\n" + train + "\n");
        ExperimentData data = ExperimentData.Open(gym.Config().Data);
        CrossFitTask union = data.Load(new TaskSample("taste", "13+42"));
        Assert.Equal((8 + 8 + 1, 8 + 8 - 1), (union.Train.Count, union.Dev.Count));
        Assert.Empty(union.Train.Select(e => e.Input).Intersect(union.Dev.Select(e => e.Input)));
        Assert.NotEqual(data.Fingerprint(new TaskSample("taste", "13")), data.Fingerprint(new TaskSample("taste", "13+42")));
    }

    [Fact]
    public void SubsetsOfTheTrainingTasksAreNestedAndAskTheSameHeldOutOnes()
    {
        using var gym = new FakeGym("nested");
        (ExperimentPlan plan, _) = gym.Plan(gym.Config("\"ablations\": { \"train_tasks\": [10, 34, 50, 84, 100] }"));
        string[] Sources(string setting) => [.. plan[plan.Jobs.First(j => j.Key == plan.Uses.First(u => u.Setting == setting).Job).InputsOf(JobNames.Subspace).Single()].Samples.Select(s => s.Task)];
        string[][] sets = [Sources("34 % of tasks"), Sources("50 % of tasks"), Sources("84 % of tasks")];
        Assert.Equal([2, 3, 5], sets.Select(s => s.Length));
        Assert.All(sets.Zip(sets.Skip(1)), pair => Assert.Empty(pair.First.Except(pair.Second)));
        foreach (string setting in (string[])["34 % of tasks", "84 % of tasks", ""])
            Assert.Equal(FakeGym.Test.Order(), plan.Uses.Where(u => u.Study == Study.TestIst && u.Setting == setting).Select(u => u.Task).Distinct().Order());
        Assert.Equal(["Ablation of training tasks at 10 % left out: that is 1 of 6 tasks, at least 2 are needed."], plan.Notes);
        Assert.DoesNotContain(plan.Uses, u => u.Setting.StartsWith("100", StringComparison.Ordinal));
    }

    [Fact]
    public void TestLinesAreSpreadOverTheFile()
    {
        using var gym = new FakeGym("lines");
        ExperimentData data = ExperimentData.Open(gym.Config("", "data.test_lines=5").Data);
        Assert.Equal(["0", "4", "8", "12", "16"], data.Load(new TaskSample("taste", "13")).Test.Select(e => e.Input.Split(' ')[^1]));
    }
}
