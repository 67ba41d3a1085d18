using System.Text.Json;
using IptNative.Tasks.Casting;
using IptNative.Tasks.Data;
using IptNative.Tasks.Metrics;
using Xunit;

namespace IptNative.Tasks.Tests.Casting;

public sealed class TaskCastingTests
{
    private static IReadOnlyList<TaskExample> Cast(string task, string json, bool forTraining = false) =>
        TaskCasting.Get(task).Cast(JsonDocument.Parse(json).RootElement, forTraining, "record");

    [Theory]
    [InlineData("boolq", """{"question":"q","passage":"p","label":1,"idx":0}""", "passage: p question: q", "True")]
    [InlineData("boolq", """{"question":"q","passage":"p","label":false}""", "passage: p question: q", "False")]
    [InlineData("cb", """{"premise":"p","hypothesis":"h","label":2}""", "hypothesis: h premise: p", "neutral")]
    [InlineData("copa", """{"premise":"p","choice1":"a","choice2":"b","question":"cause","label":1}""", "choice1: a choice2: b premise: p question: cause", "choice2")]
    [InlineData("rte", """{"premise":"p","hypothesis":"h","label":"not_entailment"}""", "hypothesis: h premise: p", "not_entailment")]
    [InlineData("wic", """{"word":"w","sentence1":"a","sentence2":"b","start1":0,"label":0}""", "sentence1: a sentence2: b word: w", "False")]
    [InlineData("cola", """{"sentence":"s","label":0}""", "sentence: s", "unacceptable")]
    [InlineData("mrpc", """{"sentence1":"a","sentence2":"b","label":1}""", "sentence1: a sentence2: b", "equivalent")]
    [InlineData("qqp", """{"question1":"a","question2":"b","label":0}""", "question1: a question2: b", "not_duplicate")]
    [InlineData("mnli", """{"premise":"p","hypothesis":"h","label":1}""", "hypothesis: h premise: p", "neutral")]
    [InlineData("qnli", """{"question":"q","sentence":"s","label":0}""", "question: q sentence: s", "entailment")]
    [InlineData("stsb", """{"sentence1":"a","sentence2":"b","label":3.25}""", "sentence1: a sentence2: b", "3.2")]
    [InlineData("stsb", """{"sentence1":"a","sentence2":"b","label":5}""", "sentence1: a sentence2: b", "5.0")]
    public void RecordsBecomeText(string task, string json, string input, string target)
    {
        TaskExample example = Assert.Single(Cast(task, json));
        Assert.Equal((input, target), (example.Input, example.Target));
    }

    [Fact]
    public void MultiRcIsCleanedAndGrouped()
    {
        TaskExample example = Assert.Single(Cast("multirc", """{"paragraph":"<b>Sent 1: </b>x<br>y","question":"q?","answer":"a","idx":{"paragraph":3,"question":14,"answer":15},"label":1}"""));
        Assert.Equal("question: q? answer: a paragraph: Sent 1: x y", example.Input);
        Assert.Equal(("True", "3/14"), (example.Target, example.Group));
    }

    [Fact]
    public void RecordGivesOneExamplePerAnswerInTraining()
    {
        const string Json = """{"passage":"First.\n@highlight\nSecond\n@highlight\nThird","query":"@placeholder won","entities":["A B","C"],"answers":["A B","C"],"idx":{"passage":1,"query":2}}""";
        const string Input = "query: @placeholder won entities: A B, C passage: First. Second. Third";
        IReadOnlyList<TaskExample> train = Cast("record", Json, forTraining: true);
        Assert.Equal([(Input, "A B"), (Input, "C")], train.Select(e => (e.Input, e.Answers.Single())));
        TaskExample evaluated = Assert.Single(Cast("record", Json));
        Assert.Equal(["A B", "C"], evaluated.Answers);
        Assert.Equal("1/2", evaluated.Group);
    }

    [Fact]
    public void WscMarksThePronounAndTrainsOnRightReferents()
    {
        const string Json = """{"text":"Mark told Pete many lies about himself because he lied .","span1_text":"Mark","span2_text":"he","span1_index":0,"span2_index":8,"label":LABEL,"idx":0}""";
        TaskExample right = Assert.Single(Cast("wsc", Json.Replace("LABEL", "1", StringComparison.Ordinal), forTraining: true));
        Assert.Equal("Mark told Pete many lies about himself because *he* lied .", right.Input);
        Assert.Equal(("Mark", true), (right.Target, right.IsPositive));
        string wrong = Json.Replace("LABEL", "false", StringComparison.Ordinal);
        Assert.Empty(Cast("wsc", wrong, forTraining: true));
        Assert.False(Assert.Single(Cast("wsc", wrong)).IsPositive);
        string off = Json.Replace("LABEL", "1", StringComparison.Ordinal).Replace("\"span2_index\":8", "\"span2_index\":7", StringComparison.Ordinal);
        Assert.Contains("span2_index 7 is \"because\"; expected the pronoun \"he\" there", Assert.Throws<InvalidDataException>(() => Cast("wsc", off)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void TheTwoOddRecordsOfWscArePatched()
    {
        const string Pony = """{"text":"The boy continued to whip the pony , and eventually the pony threw him over. John laughed out quite loud. \"Good for him,\" he said. ","span1_text":"John","span2_text":"him","span2_index":20,"label":0}""";
        Assert.EndsWith("\"Good for *him*,\" he said.", Cast("wsc", Pony)[0].Input, StringComparison.Ordinal);
        const string Pebble = """{"text":"When they had eventually calmed down a bit , and had gotten home, Mr. Farley put the magic pebble in an iron safe . Some day they might want to use it , but really for now, what more could they wish for?","span1_text":"The safe","span2_text":"it","span2_index":29,"label":0}""";
        Assert.Contains("want to use *it* , but", Cast("wsc", Pebble)[0].Input, StringComparison.Ordinal);
    }

    [Fact]
    public void SquadIsPaddedAroundPunctuation()
    {
        TaskExample example = Assert.Single(Cast("squad", """{"question":"Who's  first?","context":"Zoë (b. 1990) won.","answers":{"text":["Zoë","Z.B."],"answer_start":[0,1]}}"""));
        // RE2's \W is ASCII: an accented letter counts as punctuation, as in T5.
        Assert.Equal("question: Who ' s first ? context: Zo ë ( b . 1990 ) won .", example.Input);
        Assert.Equal(["Zo ë", "Z . B ."], example.Answers);
    }

    [Fact]
    public void MrqaIsCastAsSquadFromBothOfItsForms()
    {
        TaskExample[] asked = [.. Cast("mrqa", """{"context":"Anna won. Ben lost.","qas":[{"qid":"1","question":"Who won?","answers":["Anna","Anna."]},{"qid":"2","question":"Who lost?","answers":["Ben"]}]}""")];
        Assert.Equal(["question: Who won ? context: Anna won . Ben lost .", "question: Who lost ? context: Anna won . Ben lost ."], asked.Select(e => e.Input));
        Assert.Equal(["Anna", "Anna ."], asked[0].Answers);
        TaskExample flat = Assert.Single(Cast("mrqa", """{"subset":"BioASQ","context":"Anna won.","question":"Who won?","answers":["Anna"]}"""));
        Assert.Equal(Assert.Single(Cast("squad", """{"context":"Anna won.","question":"Who won?","answers":{"text":["Anna"]}}""")).Input, flat.Input);
        Assert.Empty(Cast("mrqa", """{"header":{"dataset":"BioASQ","split":"dev"}}"""));
    }

    [Theory]
    [InlineData("sst2", """{"sentence":"s","label":-1}""", "label is -1; expected 0 to 1, or one of negative, positive")]
    [InlineData("sst2", """{"sentence":"s","label":true}""", "label is true")]
    [InlineData("sst2", """{"text":"s","label":1}""", "record: no field \"sentence\"; the record has \"text\", \"label\"")]
    [InlineData("stsb", """{"sentence1":"a","sentence2":"b","label":"x"}""", "label is \"x\"; expected a number")]
    [InlineData("mrqa", """{"context":"c","qas":{}}""", "field \"qas\" is a JSON object; expected a list")]
    [InlineData("mrqa", """{"context":"c","qas":[{"question":"q","answers":["a"]},{"question":"q","answers":[]}]}""", "question 2: field \"answers\" is empty")]
    [InlineData("record", """{"passage":"p","query":"q","entities":[],"answers":[],"idx":{"passage":1,"query":2}}""", "field \"answers\" is empty")]
    public void WhatIsWrongIsNamed(string task, string json, string message) =>
        Assert.Contains(message, Assert.Throws<InvalidDataException>(() => Cast(task, json)).Message, StringComparison.Ordinal);

    [Fact]
    public void UnknownTasksAreNamed() =>
        Assert.Contains("Task \"nope\" is unknown; expected one of boolq, cb", Assert.Throws<ArgumentException>(() => TaskCasting.Get("nope")).Message, StringComparison.Ordinal);

    [Fact]
    public void EveryTaskHasMetricsThatExist()
    {
        foreach (string name in TaskCasting.Names) Assert.All(TaskCasting.Get(name).Metrics, m => Assert.True(Metric.IsKnown(m), m));
    }

    [Fact]
    public void PrefixAndSentinel()
    {
        Assert.Equal("[rte] x", TaskText.WithPrefix("rte", "x"));
        Assert.Equal("<extra_id_0> yes", TaskText.WithSentinel("yes"));
        Assert.Equal("yes", TaskText.WithoutSentinel(" <extra_id_0> yes <extra_id_1> no"));
        Assert.Equal("yes", TaskText.WithoutSentinel("yes"));
    }
}
