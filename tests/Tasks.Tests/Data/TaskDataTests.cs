using IptNative.Tasks.Data;
using Xunit;

namespace IptNative.Tasks.Tests.Data;

public sealed class TaskDataTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("iptnative-tasks-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static readonly string Gym = Path.Combine(Root(), "examples", "gym");

    private static string Root()
    {
        string folder = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(folder, "IptNative.sln"))) folder = Path.GetDirectoryName(folder)!; // the tests lie inside the repository
        return folder;
    }

    private string Put(string name, string text)
    {
        string path = Path.Combine(_folder, name);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!); // a file's path has a folder
        File.WriteAllText(path, text);
        return path;
    }

    private void PutCrossFit(string task, string train, string dev, string test, int k = 1, int seed = 13)
    {
        Put($"{task}/{task}_{k}_{seed}_train.tsv", train);
        Put($"{task}/{task}_{k}_{seed}_dev.tsv", dev);
        Put($"{task}/{task}_{k}_{seed}_test.tsv", test);
    }

    private TaskSource Source(string task = "t", params string[] metrics) => new() { Task = task, Data = _folder, Metrics = metrics };

    public static TheoryData<string> GymTasks => [.. GymMetadata.Load(Path.Combine(Gym, "gym.json")).Select(t => t.Name)];

    [Theory]
    [MemberData(nameof(GymTasks))]
    public void EveryShippedTaskLoadsWithEverySeedItHas(string name)
    {
        GymTask entry = GymMetadata.Load(Path.Combine(Gym, "gym.json")).Single(t => t.Name == name);
        Assert.NotNull(entry.Licence);
        Assert.NotNull(entry.Source);
        int[] seeds = [.. Directory.GetFiles(Path.Combine(Gym, name), "*_train.tsv").Select(f => CrossFitFileName.Parse(f)!.Seed)]; // named so
        Assert.Contains(13, seeds);
        foreach (int seed in seeds)
        {
            TaskData data = TaskData.Load(new TaskSource { Task = name, Data = Gym, Seed = seed });
            Assert.Equal(entry.IsClassification ? entry.K * entry.Labels.Count : entry.K, data.Train.Count);
            Assert.Equal(data.Train.Count, data.Dev.Count);
            Assert.InRange(data.Test.Count, 100, 300);
            Assert.Equal(entry.Labels, data.Labels);
            Assert.Empty(data.Notes);
        }
    }

    [Fact]
    public void ATaskMayBeNamedByItsFolder()
    {
        TaskData data = TaskData.Load(new TaskSource { Task = Path.Combine(Gym, "poem_sentiment") + "/" });
        Assert.Equal("poem_sentiment", data.Name);
        Assert.Equal(["classification_f1"], data.Metrics);
        Assert.True(data.IsClassification);
        Assert.Equal(3, data.Files.Count);
        Assert.Equal(data.Name, TaskData.Load(new TaskSource { Task = "poem_sentiment", Data = Path.Combine(Gym, "poem_sentiment") }).Name);
    }

    [Fact]
    public void ARunMayCallItsTaskOtherwise()
    {
        TaskData data = TaskData.Load(new TaskSource { Task = "poems-of-21", Data = Path.Combine(Gym, "poem_sentiment"), Seed = 21 });
        Assert.Equal("poems-of-21", data.Name);
        Assert.Equal(["mixed", "negative", "no_impact", "positive"], data.Labels);
        Assert.Equal("poems-of-21: the files in its folder are of a task named poem_sentiment; they are taken.", Assert.Single(data.Notes));
        PutCrossFit("t", "a\tx\n", "b\tx\n", "c\tx\n");
        File.Copy(Path.Combine(_folder, "t", "t_1_13_train.tsv"), Path.Combine(_folder, "t", "u_1_13_train.tsv"));
        Assert.Contains("found no examples in", Assert.Throws<FileNotFoundException>(() => TaskData.Load(new TaskSource { Task = "v", Data = Path.Combine(_folder, "t"), Metrics = ["em"] })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AFullFileNamedBesideAFolderIsSampled()
    {
        PutCrossFit("t", "a\tx\n", "b\tx\n", "c\tx\n");
        string full = Put("full.tsv", string.Concat(Enumerable.Range(0, 9).Select(i => $"input {i}\tanswer {i}\n")));
        TaskData data = TaskData.Load(Source(metrics: "em") with { TrainFile = full, Shots = 3, IsClassification = false, Seed = 100, Data = null, TestFile = Path.Combine(_folder, "t", "t_1_13_test.tsv") });
        Assert.Equal((3, 3, 1), (data.Train.Count, data.Dev.Count, data.Test.Count));
        Assert.Equal(6, data.Train.Concat(data.Dev).Select(e => e.Input).Distinct().Count());
    }

    [Fact]
    public void ShotsPickAmongFilesOfSeveral()
    {
        PutCrossFit("t", "a\tx\n", "b\tx\n", "c\tx\n", k: 1);
        PutCrossFit("t", "a\tx\nd\tx\n", "b\tx\n", "c\tx\n", k: 2);
        Assert.Contains("2 files for split train of seed 13; expected 1", Assert.Throws<InvalidDataException>(() => TaskData.Load(Source(metrics: "em"))).Message, StringComparison.Ordinal);
        Assert.Equal(2, TaskData.Load(Source(metrics: "em") with { Shots = 2 }).Train.Count);
        Assert.Contains("0 files for split train of seed 13 and 3 shots", Assert.Throws<InvalidDataException>(() => TaskData.Load(Source(metrics: "em") with { Shots = 3 })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void LabelsThatTrainingNeverShowsAreRecorded()
    {
        PutCrossFit("t", "a\tyes\nb\tno\nc\tyes\nd\tno\n", "e\tmaybe\n", "f\tnever\ng\tyes\n");
        TaskData data = TaskData.Load(Source(metrics: "acc"));
        Assert.Equal(["yes", "no"], data.Labels);
        Assert.Equal(["maybe", "never"], data.UnseenLabels);
        Assert.Contains(data.Notes, n => n.Contains("2 different ones in 4 training examples: taken for labels", StringComparison.Ordinal));
        Assert.Contains(data.Notes, n => n.Contains("2 of the labels in dev or test never occur in training (maybe, never)", StringComparison.Ordinal));
    }

    [Fact]
    public void FreeAnswersHaveNoLabels()
    {
        PutCrossFit("t", "a\tone\nb\ttwo\n", "e\tthree\n", "f\tfour\n");
        TaskData data = TaskData.Load(Source(metrics: "em"));
        Assert.False(data.IsClassification);
        Assert.Empty(data.Labels);
        Assert.Empty(data.UnseenLabels);
        Assert.True(TaskData.Load(Source(metrics: "em") with { IsClassification = true }).IsClassification);
        TaskData declared = TaskData.Load(Source(metrics: "em") with { Labels = ["one", "three"] });
        Assert.Equal(["one", "three"], declared.Labels);
        Assert.Contains(declared.Notes, n => n.Contains("1 answers of the training split are none of its labels (two)", StringComparison.Ordinal));
    }

    [Fact]
    public void OneExampleASplitIsEnough()
    {
        PutCrossFit("t", "a\tx\n", "b\tx\n", "c\tx\n");
        Assert.Single(TaskData.Load(Source(metrics: "em")).Require("train"));
    }

    [Theory]
    [InlineData("", "holds 0 examples")]
    [InlineData("no tab\n", "line 1: no tab in \"no tab\"")]
    [InlineData("a\t\n", "line 1: answer 1 is empty")]
    [InlineData("\tx\n", "line 1: the input is empty")]
    [InlineData("a\tx\r\nb\ty\r\n", "Windows line ends")]
    [InlineData("a\tx\r\n", "Windows line ends")]
    public void BadFilesAreNamed(string train, string message)
    {
        PutCrossFit("t", train, "b\tx\n", "c\tx\n");
        InvalidDataException e = Assert.Throws<InvalidDataException>(() => TaskData.Load(Source(metrics: "em")));
        Assert.Contains(message, e.Message, StringComparison.Ordinal);
        Assert.Contains("t_1_13_train.tsv", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void WhatIsNotThereIsNamed()
    {
        Assert.Contains("found no examples in", Assert.Throws<FileNotFoundException>(() => TaskData.Load(Source(metrics: "em"))).Message, StringComparison.Ordinal);
        Assert.Contains("there is no such folder", Assert.Throws<DirectoryNotFoundException>(() => TaskData.Load(new TaskSource { Task = "t", Data = Path.Combine(_folder, "no") })).Message, StringComparison.Ordinal);
        Assert.Contains("no data folder was named", Assert.Throws<DirectoryNotFoundException>(() => TaskData.Load(new TaskSource { Task = "no-such-task" })).Message, StringComparison.Ordinal);
        PutCrossFit("t", "a\tx\n", "b\tx\n", "c\tx\n");
        Assert.Contains("no metric is known", Assert.Throws<InvalidDataException>(() => TaskData.Load(Source())).Message, StringComparison.Ordinal);
        Assert.Contains("Metric \"blue\" is unknown", Assert.Throws<ArgumentException>(() => TaskData.Load(Source(metrics: "blue"))).Message, StringComparison.Ordinal);
        Assert.Contains("Split \"valid\" is unknown", Assert.Throws<ArgumentException>(() => TaskData.Load(Source(metrics: "em")).Require("valid")).Message, StringComparison.Ordinal);
        TaskData part = TaskData.Load(new TaskSource { Task = "t", TestFile = Put("only.tsv", "a\tx\n"), Metrics = ["em"] });
        Assert.Contains("found 0 train examples (train 0, dev 0, test 1; read ", Assert.Throws<InvalidDataException>(() => part.Require("train")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void PlainFilesAndGymJsonBesideThem()
    {
        Put("gym.json", """{"t":{"type":"cls","k":1,"labels":["b","a"],"metric":"ACC"}}""");
        Put("t/train.tsv", "x\ta\ny\tb\n");
        Put("t/validation.tsv", "z\ta\n");
        TaskData data = TaskData.Load(Source());
        Assert.Equal(["acc"], data.Metrics);
        Assert.Equal(["b", "a"], data.Labels);
        Assert.Equal((2, 1, 0), (data.Train.Count, data.Dev.Count, data.Test.Count));
        Put("t/dev.tsv", "z\ta\n");
        Assert.Contains("2 files are the dev split: dev.tsv, validation.tsv; expected 1", Assert.Throws<InvalidDataException>(() => TaskData.Load(Source())).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void JsonLinesGoThroughTemplatesOrTheCastingOfTheirName()
    {
        Put("boolq/train.jsonl", """{"passage":"p","question":"q","label":1}""" + "\n");
        Put("boolq/validation.jsonl", """{"passage":"p","question":"q","label":0}""" + "\n");
        TaskData boolq = TaskData.Load(Source("boolq"));
        Assert.Equal("passage: p question: q", boolq.Train[0].Input);
        Assert.Equal(("True", "False"), (boolq.Train[0].Target, boolq.Dev[0].Target));
        Assert.Equal(["False", "True"], boolq.Labels);
        Assert.Equal(["label_accuracy"], boolq.Metrics);

        TaskData templated = TaskData.Load(Source("boolq", "em") with { InputTemplate = "{question}?", TargetTemplate = "{label}" });
        Assert.Equal(("q?", "1"), (templated.Train[0].Input, templated.Train[0].Target));

        Put("mine/train.jsonl", """{"a":"x"}""" + "\n");
        Assert.Contains("task mine has no casting of its own", Assert.Throws<InvalidDataException>(() => TaskData.Load(Source("mine", "em"))).Message, StringComparison.Ordinal);
        Assert.Contains("one template without the other", Assert.Throws<ArgumentException>(() => TaskData.Load(Source("mine", "em") with { InputTemplate = "{a}" })).Message, StringComparison.Ordinal);
        Assert.Contains("found the casting rte and templates", Assert.Throws<ArgumentException>(() => TaskData.Load(Source("mine", "em") with { InputTemplate = "{a}", TargetTemplate = "{a}", Casting = "rte" })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AKShotSampleIsDrawnFromFullFiles()
    {
        string full = string.Concat(Enumerable.Range(0, 40).Select(i => $"input {i}\t{(i % 2 == 0 ? "even" : "odd")}\n"));
        Put("t/train.tsv", full);
        Put("t/dev.tsv", "a\teven\nb\todd\n");
        TaskData data = TaskData.Load(Source(metrics: "acc") with { Shots = 4, Seed = 21 });
        Assert.Equal((8, 8, 2), (data.Train.Count, data.Dev.Count, data.Test.Count));
        Assert.Equal(4, data.Train.Count(e => e.Target == "odd"));
        Assert.Contains(data.Notes, n => n.Contains("the development file's 2 examples are the test split", StringComparison.Ordinal));
        Assert.NotEqual(data.Train.Select(e => e.Input), TaskData.Load(Source(metrics: "acc") with { Shots = 4, Seed = 42 }).Train.Select(e => e.Input));
        Assert.Contains("shots is 0", Assert.Throws<ArgumentException>(() => TaskData.Load(Source(metrics: "acc") with { Shots = 0 })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ASampleOfWscTrainsOnRightReferentsOnly()
    {
        string Line(int label) => $$"""{"text":"Ann saw that she slept","span1_text":"Ann","span2_index":3,"span2_text":"she","label":{{label}}}""" + "\n";
        Put("wsc/train.jsonl", string.Concat(Enumerable.Range(0, 20).Select(i => Line(i % 2))));
        TaskData data = TaskData.Load(Source("wsc") with { Shots = 8, Seed = 13 });
        Assert.All(data.Train, e => Assert.True(e.IsPositive));
        Assert.InRange(data.Train.Count, 1, 7);
        Assert.Equal(8, data.Dev.Count);
        Assert.Contains(data.Dev, e => e.IsPositive == false);
    }
}
