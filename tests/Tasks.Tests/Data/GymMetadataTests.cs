using IptNative.Tasks.Data;
using Xunit;

namespace IptNative.Tasks.Tests.Data;

public sealed class GymMetadataTests
{
    private static IReadOnlyList<GymTask> Load(string text)
    {
        using var file = new TemporaryFile(text, "gym.json");
        return GymMetadata.Load(file.Path);
    }

    [Fact]
    public void TasksAreRead()
    {
        IReadOnlyList<GymTask> tasks = Load("""{"b":{"type":"cls","k":16,"labels":["no","yes"],"metric":"Classification-F1","licence":"MIT","source":"s","more":[1]},"a":{"type":"noncls","k":32,"labels":null,"metric":"em"}}""");
        Assert.Equal(["b", "a"], tasks.Select(t => t.Name));
        Assert.Equal(("b", true, 16, "Classification-F1", "MIT", "s"), (tasks[0].Name, tasks[0].IsClassification, tasks[0].K, tasks[0].Metric, tasks[0].Licence, tasks[0].Source));
        Assert.Equal(["no", "yes"], tasks[0].Labels);
        Assert.Empty(tasks[1].Labels);
        Assert.Null(tasks[1].Licence);
    }

    [Theory]
    [InlineData("[]", "expected an object with one entry per task")]
    [InlineData("{", "no JSON (")]
    [InlineData("""{"a":{"type":"\ud800","k":1,"metric":"em"}}""", "no JSON (")]
    [InlineData("""{"a":3}""", "task \"a\": expected an object with type, k, labels and metric")]
    [InlineData("""{"a":{"k":1,"metric":"em"}}""", "task \"a\": no field \"type\"")]
    [InlineData("""{"a":{"type":"x","k":1,"metric":"em"}}""", "type is \"x\"; expected \"cls\" or \"noncls\"")]
    [InlineData("""{"a":{"type":"noncls","k":0,"metric":"em"}}""", "k is 0; expected a whole number from 1")]
    [InlineData("""{"a":{"type":"noncls","k":1.5,"metric":"em"}}""", "k is 1.5")]
    [InlineData("""{"a":{"type":"cls","k":1,"labels":["x"],"metric":"em"}}""", "a classification task with 1 labels")]
    [InlineData("""{"a":{"type":"cls","k":1,"labels":["x","x"],"metric":"em"}}""", "a label occurs twice")]
    [InlineData("""{"a":{"type":"noncls","k":1,"metric":"BLEU"}}""", "metric \"BLEU\" is unknown; expected one of acc")]
    public void WhatIsWrongIsNamed(string text, string message) =>
        Assert.Contains(message, Assert.Throws<InvalidDataException>(() => Load(text)).Message, StringComparison.Ordinal);
}
